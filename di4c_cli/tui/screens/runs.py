"""The list of runs."""

import time
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Input, Static

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.axis import figure
from di4c_cli.tui.messages import RunFacts, RunsListed
from di4c_cli.tui.screens import FollowScreen
from di4c_cli.tui.tail import RunsTail
from di4c_cli.tui.widgets import Colours, inks, to_the_right
from di4c_cli.tui.widgets.status_bar import share_done, state_colour

COLUMNS = ("", "run", "state", "step", "done", "loss", "speed", "recipe", "role", "age")
_NUMBERS = {"step", "done", "loss", "speed", "age"}
_SLACK = 4  # columns by which a cell may grow before the table is laid out anew


class RunsTable(DataTable[Text]):
    """A table whose Enter shows in the footer."""

    BINDINGS: ClassVar = [Binding("enter", "select_cursor", "Open")]


class FilterLine(Input):
    """Enter keeps the filter, Escape clears it."""

    BINDINGS: ClassVar = [Binding("escape", "screen.clear_filter", "No filter", show=False)]


class RunsScreen(FollowScreen):
    """All runs below the root, newest first; Enter opens one, Space marks those to compare.

    `open_first`: open the first run that appears, for a monitor that was started before its run.
    """

    AUTO_FOCUS = "#runs"
    period, longest = 1.0, 10.0
    BINDINGS: ClassVar = [
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare"),
        Binding("n", "app.new_run", "New run"),
        Binding("slash,f", "filter", "Filter"),
        Binding("K", "stop_run", "Stop the run", show=False),
        Binding("escape", "clear_filter", "No filter, no marks", show=False),
    ]

    def __init__(self, tail: RunsTail, colours: Colours, open_first: bool = False) -> None:
        super().__init__(tail)
        self.root = tail.root
        self.colours = colours
        self.open_first = open_first
        self.marked: dict[str, None] = {}  # paths, in the order in which they were marked
        self._runs: tuple[RunFacts, ...] = ()
        self._rows: dict[str, tuple[Text, ...]] = {}  # what the table holds, by path
        self._widths: list[int] = []
        self._drawn: dict[str, tuple[object, tuple[Text, ...]]] = {}  # cells, and what they were made of

    def compose(self) -> ComposeResult:
        yield Static(id="runs-title", markup=False)
        yield RunsTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield FilterLine(id="filter", placeholder="words of name, state, recipe or role", compact=True)
        yield Footer()

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(FilterLine).display = False

    def take(self, item: Any) -> None:
        if isinstance(item, RunsListed):
            self._runs = item.runs
            self._draw()
            if self.open_first and item.runs:
                self.open_first = False
                self.open(item.runs[0].path)

    # -- drawing -----------------------------------------------------------------------------

    def _draw(self) -> None:
        words = self.query_one(FilterLine).value.lower().split()
        shown = [facts for facts in self._runs if all(word in _searched(facts) for word in words)]
        self.query_one("#runs-title", Static).update(self._title(len(shown), bool(words)))
        self._fill({str(facts.path): self._cells(facts) for facts in shown})

    def _cells(self, facts: RunFacts) -> tuple[Text, ...]:
        """The cells of a run, made anew only where they say something else."""
        path = str(facts.path)
        told = (facts, path in self.marked, age(facts.updated), self.app.theme)
        if path not in self._drawn or self._drawn[path][0] != told:
            self._drawn[path] = (told, self._new_cells(facts))
        return self._drawn[path][1]

    def _fill(self, rows: dict[str, tuple[Text, ...]]) -> None:
        """Change only cells that are others now: there may be thousands of rows."""
        table = self.query_one(RunsTable)
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows.values(), strict=True)]
        fits = len(widths) == len(self._widths) and all(
            now <= then <= now + _SLACK for now, then in zip(widths, self._widths, strict=True)
        )
        if list(rows) == list(self._rows) and fits:
            for key, cells in rows.items():
                if cells is not self._rows[key]:
                    for column, cell in zip(COLUMNS, self._aligned(cells), strict=True):
                        table.update_cell(key, column, cell)
            self._rows = rows
            return
        keys = list(self._rows)
        under = keys[table.cursor_row] if table.cursor_row < len(keys) else None
        table.clear(columns=True)
        # With widths left to the table a first frame may show them too narrow.
        for column, width in zip(COLUMNS, widths, strict=True):
            table.add_column(column, key=column, width=width)
        self._rows, self._widths = rows, widths
        for key, cells in rows.items():
            table.add_row(*self._aligned(cells), key=key)
        if under in rows:  # the cursor stays on its run
            table.move_cursor(row=list(rows).index(under))

    def _aligned(self, cells: tuple[Text, ...]) -> list[Text]:
        return [
            to_the_right(cell, width) if column in _NUMBERS else cell
            for column, cell, width in zip(COLUMNS, cells, self._widths, strict=True)
        ]

    def _title(self, shown: int, filtered: bool) -> str:
        num = len(self._runs)
        if not num:
            return f"no runs below {self.root} yet; start one: n, or di4c distill digits"
        of = f"{shown} of " if filtered else ""
        marked = f" · {len(self.marked)} marked, c compares them" if self.marked else ""
        return f"{of}{num} run{'s' if num > 1 else ''} below {self.root}{marked}"

    def _new_cells(self, facts: RunFacts) -> tuple[Text, ...]:
        done = share_done(facts)
        palette = inks(self)
        mark = str(facts.path) in self.marked
        colour = palette[self.colours.of(facts.name)].rich_color.name if mark else ""
        return (
            Text("■" if mark else " ", style=colour),
            Text(facts.name, style=f"bold {colour}"),
            Text(f"● {facts.state}", style=state_colour(facts.state).rich_color.name),
            Text(f"{facts.step:,}/{facts.steps:,}" if facts.steps else f"{facts.step:,}"),
            Text("–" if done is None else f"{100 * done:.0f}%"),
            Text("–" if facts.loss is None else figure(facts.loss)),
            Text("–" if facts.samples_per_s is None else f"{figure(facts.samples_per_s)}/s"),
            Text(facts.recipe),
            Text(facts.role),
            Text(age(facts.updated)),
        )

    # -- keys --------------------------------------------------------------------------------

    def _under_cursor(self) -> str | None:
        keys, row = list(self._rows), self.query_one(RunsTable).cursor_row
        return keys[row] if 0 <= row < len(keys) else None

    def action_mark(self) -> None:
        """Mark the run under the cursor or take the mark back, and go on to the next."""
        path = self._under_cursor()
        if path is None:
            return
        if path in self.marked:
            del self.marked[path]
        else:
            self.marked[path] = None
        self._draw()
        self.query_one(RunsTable).action_cursor_down()

    def action_compare(self) -> None:
        here = {str(facts.path) for facts in self._runs}
        runs = tuple(RunDirectory(Path(path)) for path in self.marked if path in here)
        if len(runs) < 2:
            self.notify("mark two runs or more with Space", timeout=3)
            return
        self.app.compare(runs)

    def action_filter(self) -> None:
        line = self.query_one(FilterLine)
        line.display = True
        line.focus()

    def action_clear_filter(self) -> None:
        line = self.query_one(FilterLine)
        if not line.value and self.focused is not line:
            self.marked.clear()
        line.value = ""
        line.display = False
        self.query_one(RunsTable).focus()
        self._draw()

    def on_input_changed(self, _: Input.Changed) -> None:
        self._draw()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self.query_one(RunsTable).focus()

    def action_stop_run(self) -> None:
        if path := self._under_cursor():
            self.app.stop_run(RunDirectory(Path(path)))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        if event.row_key.value is not None:
            self.open(Path(event.row_key.value))

    def open(self, path: Path) -> None:
        self.app.open_run(RunDirectory(path))


def _searched(facts: RunFacts) -> str:
    return f"{facts.name} {facts.state} {facts.recipe} {facts.role}".lower()


def age(moment: float | None) -> str:
    """`now`, `5 min`, `3 h` or `2 d` since a moment: what changes seldom costs little in a long list."""
    if moment is None:
        return "–"
    seconds = time.time() - moment
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "now"
