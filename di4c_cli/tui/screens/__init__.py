"""The screens: runs (the list), run (one run), help. Their common base polls a tail."""

from typing import Protocol

from textual.message import Message
from textual.screen import Screen

PERIOD = 0.25  # seconds between polls, and so between repaints: at most four a second


class Tail(Protocol):
    """What a screen follows."""

    behind: bool

    def poll(self) -> list[Message]: ...


class FollowScreen(Screen[None]):
    """Polls `tail` in a worker thread while it is on top, and receives its messages.

    A file system that hangs stops the news, not the keys.
    """

    AUTO_FOCUS = ""
    period = PERIOD

    def __init__(self, tail: Tail) -> None:
        super().__init__()
        self.tail = tail
        self._polling = False

    def on_mount(self) -> None:
        self.set_interval(self.period, self.poll)

    def on_screen_resume(self) -> None:
        self.poll()

    def poll(self) -> None:
        """Start a poll unless one is under way or the screen is covered."""
        if not self._polling and self.app.screen is self:
            self._polling = True
            self.run_worker(self._read, thread=True, group="poll")

    def _read(self) -> None:
        try:
            for message in self.tail.poll():
                self.post_message(message)
        finally:
            self._polling = False
