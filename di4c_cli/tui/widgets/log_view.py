"""Lines of a log as they were looked up: its end while it grows, any place, or what a filter matches."""

import re
from dataclasses import replace
from itertools import islice
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.actions import SkipAction
from textual.binding import Binding
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from di4c_cli.tui.log_file import Line, Look, Wanted
from di4c_cli.tui.widgets import inks

_TIME = re.compile(r"\d\d:\d\d:\d\d\b ?")
_ALARMS = (
    (re.compile("failed|error|not finite", re.IGNORECASE), 5),
    (re.compile("warning", re.IGNORECASE), 4),
)
_MATCH = Style(reverse=True)
_COLUMNS = 8  # that left and right scroll
_MARKS = 100  # matches that are marked in one line


class LogView(ScrollView, can_focus=True):
    """Draws lines that were looked up, and follows the end until it is scrolled up."""

    BINDINGS: ClassVar = [
        Binding("home,g", "scroll_home", "Top of the log", show=False),
        Binding("end,G", "scroll_end", "Follow the log", show=False),
    ]

    class Moved(Message):
        """Other lines are to be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.following = True
        self._look = Look()
        self._width = 0
        self._strips: dict[str, Strip] = {}  # of the lines at hand

    def wanted(self, pattern: re.Pattern[str] | None) -> Wanted:
        """A screenful and as much before and after it."""
        height = max(1, self.size.height)
        top = 0 if self.following else max(0, self.scroll_offset.y - height)
        return Wanted(pattern, self.following, top, 3 * height)

    def show(self, found: Look) -> None:
        before = self._seen()
        if found.wanted.pattern != self._look.wanted.pattern:
            self._strips.clear()
        self._look = found
        self._strips = {text: self._strips[text] for _, text in found.lines if text in self._strips}
        width = max((cell_len(text) for _, text in found.lines), default=0)
        self._width = max(width, self._width) if found.num_shown else 0
        self._resize_content(Size(self._width, found.num_shown))
        self._stay_at_the_end()
        if self._seen() != before:
            self.refresh()

    def _resize_content(self, size: Size) -> None:
        """A layout paints the whole screen again: only when a scroll bar comes or goes."""
        sizes = zip(self.virtual_size, size, self.container_size, strict=True)
        if any((before > room) != (after > room) for before, after, room in sizes):
            self.virtual_size = size
            return
        self.set_reactive(LogView.virtual_size, size)
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.window_virtual_size = size.height

    def leave_matches(self) -> None:
        """Go to where the match at the top stands among all lines."""
        top = self._line(self.scroll_offset.y)
        self._look = replace(self._look, lines=())
        self._resize_content(Size(self._width, self._look.num_lines))
        self.scroll_to(y=top[0] if top else 0, animate=False, force=True)

    def _line(self, place: int) -> Line | None:
        place -= self._look.first
        return self._look.lines[place] if 0 <= place < len(self._look.lines) else None

    def _seen(self) -> object:
        top = self.scroll_offset.y
        lines = [self._line(place) for place in range(top, top + self.size.height)]
        return lines, self._look.wanted.pattern, self._look.problem

    # -- moving ------------------------------------------------------------------------------

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.following = round(new_value) >= self.max_scroll_y
        self.post_message(self.Moved())

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        if shown:  # it was not told where it is while it was hidden
            self.vertical_scrollbar.position = self.scroll_y

    def on_resize(self, _: Resize) -> None:
        self._stay_at_the_end()
        self.post_message(self.Moved())

    def _stay_at_the_end(self) -> None:
        """Also when the end has come to where the view is."""
        self.following = self.following or self.scroll_y >= self.max_scroll_y
        if self.following:
            self.action_scroll_end()

    def action_scroll_home(self) -> None:
        self.scroll_to(x=0, y=0, animate=False, force=True)

    def action_scroll_end(self) -> None:
        self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def action_scroll_left(self) -> None:
        self._sideways(-_COLUMNS)

    def action_scroll_right(self) -> None:
        self._sideways(_COLUMNS)

    def _sideways(self, columns: int) -> None:
        if not self.allow_horizontal_scroll:
            raise SkipAction
        self.scroll_to(x=self.scroll_x + columns, animate=False)

    # -- drawing -----------------------------------------------------------------------------

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        left, top = self.scroll_offset
        line = self._line(top + y)
        if line is not None and line[1] not in self._strips:
            self._strips[line[1]] = self._draw(line[1])
        strip = Strip.blank(width) if line is None else self._strips[line[1]].crop(left, left + width)
        if self._look.problem and y == 0:
            strip = Strip([Segment(self._look.problem, Style(dim=True))])
        return strip.adjust_cell_length(width).apply_style(self.rich_style)

    def _draw(self, line: str) -> Strip:
        ink = next((ink for alarm, ink in _ALARMS if alarm.search(line)), None)
        text = Text(line, Style() if ink is None else Style(color=inks(self)[ink].rich_color), end="")
        if stamp := _TIME.match(line):
            text.stylize(Style(dim=True), 0, stamp.end())
        if self._look.wanted.pattern is not None:
            for match in islice(self._look.wanted.pattern.finditer(line), _MARKS):
                text.stylize(_MATCH, *match.span())
        return Strip(text.render(self.app.console), cell_len(line))
