"""A log with its filter: looks at the file in a worker thread, while somebody can see it."""

import re
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import Worker

from di4c_cli.tui.log_file import LogFile, Look, Wanted, compile_filter, look
from di4c_cli.tui.widgets.filter_line import FilterLine
from di4c_cli.tui.widgets.log_view import LogView

PERIOD = 1.0  # seconds between looks at the file
_LOOK = 0.25  # seconds a look at a file goes on for that is not indexed yet


class LogPane(Vertical):
    """Looks at a file in a worker thread, and only while it is to be seen itself."""

    DEFAULT_CSS = """
    LogPane LogView { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; scrollbar-gutter: stable; }
    """
    BINDINGS: ClassVar = [
        Binding("slash", "filter", "Filter", show=False),
        Binding("escape", "clear_filter", "Close the filter", show=False),
    ]

    def __init__(self, path: Path | None = None, id: str = "log") -> None:
        super().__init__(id=id)
        self.border_title = "log"
        self._log = LogFile(path) if path is not None else None
        self._pattern: re.Pattern[str] | None = None
        self._found = Look()
        self._worker: Worker[Look | None] | None = None  # until its answer is taken
        self._again = False  # something else is wanted than what the worker looks for

    def compose(self) -> ComposeResult:
        yield LogView()
        yield FilterLine("text or regular expression")

    def on_mount(self) -> None:
        self.set_interval(PERIOD, self.poll)

    def show(self, path: Path) -> None:
        """Follow another file; the filter stays."""
        if self._log is not None and self._log.path == path:
            return
        self._log = LogFile(path)
        self._worker = None
        self._found = Look()
        if self.is_mounted:
            view = self.query_one(LogView)
            view.following = True
            view.show(self._found)
            self.poll()

    # -- looking -----------------------------------------------------------------------------

    def poll(self) -> None:
        """Look at the file now, or right after the look that is under way."""
        if self._log is None or not self._visible():
            return
        self._again = self._worker is not None
        if not self._again:
            wanted = self.query_one(LogView).wanted(self._pattern)
            read = partial(self._read, self._log, wanted, self._found.wanted)
            self._worker = self.run_worker(read, thread=True, exclusive=True, group="log")

    def _visible(self) -> bool:
        if not self.is_attached or self.screen is not self.app.screen:
            return False
        return all(node.display for node in self.ancestors_with_self if isinstance(node, Widget))

    def _read(self, log: LogFile, wanted: Wanted, answered: Wanted) -> Look | None:
        """In the worker thread; None: nothing new."""
        until = time.monotonic() + _LOOK
        log.filter(wanted.pattern)
        changed = log.poll()
        while log.behind and not self._again and time.monotonic() < until:
            changed |= log.poll()
        return look(log, wanted) if changed or wanted != answered else None

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.worker is not self._worker or not event.worker.is_finished:
            return
        self._worker = None
        found: Look | None = event.worker.result
        if found is not None and found.wanted.pattern == self._pattern:
            self._found = found
            self.query_one(LogView).show(found)
            self._tell()
        if self._again or self._found.share < 1:
            self.poll()

    def on_show(self) -> None:
        self.poll()

    def on_log_view_moved(self) -> None:
        self._tell()
        if self.query_one(LogView).wanted(self._pattern) != self._found.wanted:
            self.poll()

    def _tell(self) -> None:
        """What is shown, on the border."""
        found = self._found
        if found.wanted.pattern != self._pattern:  # the answer is under way
            return
        if self._pattern is not None:
            words = self.query_one(FilterLine).value
            text = f'{found.num_shown:,} of {found.num_lines:,} match "{words}"'
        else:
            text = f"{found.num_lines:,} lines" if found.num_lines != 1 else "1 line"
        if found.share < 1:
            text += f" · read {100 * found.share:.0f}%"
        if self.query_one(LogView).following:
            text += " · following"
        if found.problem:
            text = ""
        subtitle = Content(text)
        if subtitle.markup != self.border_subtitle:  # setting it repaints
            self.border_subtitle = subtitle

    # -- filter ------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self.query_one(FilterLine).open()

    def action_clear_filter(self) -> None:
        self.query_one(FilterLine).clear_and_close(self.query_one(LogView))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(LogView).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._pattern = compile_filter(event.value)
        view = self.query_one(LogView)
        if self._pattern is None and not view.following:
            view.leave_matches()
        else:
            view.following = True
        self.poll()
