"""The screens: runs (the list), run (one run), compare (several), new_run, help, and small questions.

Their common base polls a tail.
"""

import time
from typing import Any, Protocol

from textual.screen import Screen

from di4c_cli.tui.messages import News

PERIOD = 0.25  # seconds between polls, and so between repaints: at most four a second
_SHARE = 0.02  # of a core that watching may take


class Tail(Protocol):
    """What a screen follows."""

    @property
    def behind(self) -> bool: ...

    def poll(self) -> list[Any]: ...


class FollowScreen(Screen[None]):
    """Polls `tail` in a worker thread while it is on top, and receives what it finds as `News`.

    A file system that hangs stops the news, not the keys. What a poll and its repaint have cost decides how
    long the next one waits.
    """

    AUTO_FOCUS = ""
    period = PERIOD
    longest = 2.0
    """Seconds between polls, at most, however much they cost."""

    def __init__(self, tail: Tail) -> None:
        super().__init__()
        self.tail = tail
        self._polling = False
        self._mark = (time.monotonic(), time.process_time())

    def on_mount(self) -> None:
        self.set_interval(PERIOD, self._tick)

    def on_screen_resume(self) -> None:
        self.poll()

    def _tick(self) -> None:
        then, used = self._mark
        cost = (time.process_time() - used) / _SHARE
        if time.monotonic() - then >= min(max(self.period, cost), self.longest) - 0.01:
            self.poll()

    def poll(self) -> None:
        """Start a poll unless one is under way or the screen is covered."""
        if not self._polling and self.app.screen is self:
            self._polling = True
            self._mark = (time.monotonic(), time.process_time())
            self.run_worker(self._read, thread=True, group="poll")

    def _read(self) -> None:
        try:
            while True:
                if items := self.tail.poll():
                    self.post_message(News(items))
                if not self.tail.behind or not self.is_running:
                    return
        finally:
            self._polling = False

    def on_news(self, event: News) -> None:
        with self.app.batch_update():
            for item in event.items:
                self.take(item)

    def take(self, item: Any) -> None:
        """One piece of news."""
        raise NotImplementedError
