"""The table of runs. There may be thousands: what cannot be seen costs nothing."""

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

COLUMNS = ("", "run", "state", "step", "done", "loss", "speed", "recipe", "role", "age")
_NUMBERS = {"step", "done", "loss", "speed", "age"}
_GAP = 2  # blank columns between two columns
_SLACK = 4  # cells by which a column may be wider than it has to be: figures change, columns should not
_SIDEWAYS = 8  # cells that left and right scroll
Cell = tuple[str, Style]
Row = tuple[Cell, ...]


class RunsTable(ScrollView, can_focus=True):
    """Rows by their key, below headings that stay.

    The cursor stays on the row that was chosen while rows come and go, and returns to it from a filter.
    """

    COMPONENT_CLASSES: ClassVar = {
        "runs-table--heading",
        "runs-table--even",
        "runs-table--odd",
        "runs-table--cursor",
    }
    DEFAULT_CSS = """
    RunsTable { background: $surface; color: $foreground; scrollbar-size: 1 1;
        & > .runs-table--heading { background: $panel; color: $foreground; text-style: bold; }
        & > .runs-table--even { background: $surface-lighten-1 50%; }
        & > .runs-table--cursor { background: $block-cursor-blurred-background; text-style: bold;
            color: $block-cursor-blurred-foreground; }
        &:focus > .runs-table--cursor { background: $block-cursor-background; text-style: bold;
            color: $block-cursor-foreground; }
    }
    """
    BINDINGS: ClassVar = [
        Binding("enter", "open", "Open"),
        Binding("up", "move(-1)", "Previous run", show=False),
        Binding("down", "move(1)", "Next run", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,ctrl+home", "first", "First run", show=False),
        Binding("end,ctrl+end", "last", "Last run", show=False),
    ]

    @dataclass
    class Opened(Message):
        """A row was picked."""

        key: str

    def __init__(self) -> None:
        super().__init__(id="runs")
        self.rows: dict[str, Row] = {}
        self.cursor = 0
        self._keys: list[str] = []
        self._chosen = ""
        self._widths = [0] * len(COLUMNS)

    @property
    def under_cursor(self) -> str | None:
        return self._keys[self.cursor] if self._keys else None

    def show(self, rows: dict[str, Row]) -> None:
        """The rows from the top."""
        before = self._seen()
        place = self._place(rows)
        scrolled = self.scroll_offset.y + place - self.cursor
        self.rows, self._keys, self.cursor = rows, list(rows), place
        self._chosen = self._chosen or self.under_cursor or ""
        self._widths = list(map(self._width, range(len(COLUMNS)), self._widths))
        size = Size(sum(self._widths) + _GAP * len(COLUMNS), len(rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
            self.scroll_to(y=scrolled, animate=False, force=True)  # the rows around the cursor stay in view
        if self._seen() != before:
            self.refresh()

    def _place(self, rows: dict[str, Row]) -> int:
        """Where the cursor belongs: on the row that was chosen, else on the next one that is left."""
        places = {key: place for place, key in enumerate(rows)}
        wanted = [self._chosen, *self._keys[self.cursor :]]
        return next((places[key] for key in wanted if key in places), max(0, min(self.cursor, len(rows) - 1)))

    def _width(self, column: int, before: int) -> int:
        widest = max([cell_len(row[column][0]) for row in self.rows.values()], default=0)
        widest = max(widest, len(COLUMNS[column]))
        return before if widest <= before <= widest + _SLACK else widest

    # -- moving ------------------------------------------------------------------------------

    def action_move(self, change: int) -> None:
        self._choose(self.cursor + change)

    def action_page(self, direction: int) -> None:
        self._choose(self.cursor + direction * max(1, self._num_seen - 1))

    def action_first(self) -> None:
        self._choose(0)

    def action_last(self) -> None:
        self._choose(len(self._keys) - 1)

    def action_scroll_left(self) -> None:
        self.scroll_to(x=self.scroll_x - _SIDEWAYS, animate=False)

    def action_scroll_right(self) -> None:
        self.scroll_to(x=self.scroll_x + _SIDEWAYS, animate=False)

    def action_open(self) -> None:
        if key := self.under_cursor:
            self.post_message(self.Opened(key))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        row = -1 if offset is None or offset.y == 0 else self.scroll_offset.y + offset.y - 1
        if 0 <= row < len(self._keys):
            self._choose(row)
            self.action_open()

    def on_resize(self, _: events.Resize) -> None:
        self._show_cursor()

    def _choose(self, row: int) -> None:
        self.cursor = max(0, min(row, len(self._keys) - 1))
        self._chosen = self.under_cursor or ""
        self._show_cursor()
        self.refresh()

    def _show_cursor(self) -> None:
        top, most = self.scroll_offset.y, max(1, self._num_seen)
        y = min(max(top, self.cursor - most + 1), self.cursor)
        if y != top:
            self.scroll_to(y=y, animate=False, force=True)

    # -- drawing -----------------------------------------------------------------------------

    @property
    def _num_seen(self) -> int:
        return self.scrollable_content_region.height - 1

    def _seen(self) -> object:
        """Everything that is on the screen."""
        top = self.scroll_offset.y
        rows = [self.rows[key] for key in self._keys[top : top + self._num_seen]]
        return rows, self.cursor, top, self._widths

    def render_line(self, y: int) -> Strip:
        width, left = self.scrollable_content_region.width, self.scroll_offset.x
        row = self.scroll_offset.y + y - 1
        if y == 0:
            strip, kind = self._strip(tuple((name, Style()) for name in COLUMNS)), "heading"
        elif row < len(self._keys):
            strip, kind = self._strip(self.rows[self._keys[row]]), "odd" if row % 2 else "even"
        else:
            return Strip.blank(width, self.rich_style)
        if y > 0 and row == self.cursor:  # colours of its own would be hard to read there
            strip, kind = Strip([Segment(strip.text)]), "cursor"
        style = self.get_component_rich_style(f"runs-table--{kind}")
        return strip.crop_extend(left, left + width, Style()).apply_style(style)

    def _strip(self, row: Row) -> Strip:
        segments = []
        for column, (text, style), width in zip(COLUMNS, row, self._widths, strict=True):
            blank = " " * (width - cell_len(text))
            told = blank + text if column in _NUMBERS else set_cell_size(text, width)
            segments += [Segment(" " * (_GAP // 2)), Segment(told, style), Segment(" " * (_GAP - _GAP // 2))]
        return Strip(segments)
