"""The list of runs."""

import time
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Static

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.axis import duration, figure
from di4c_cli.tui.messages import RunFacts, RunsListed
from di4c_cli.tui.screens import FollowScreen
from di4c_cli.tui.screens.run import RunScreen
from di4c_cli.tui.tail import RunsTail
from di4c_cli.tui.widgets.status_bar import share_done, state_colour

COLUMNS = ("run", "state", "step", "done", "loss", "recipe", "role", "age")


class RunsTable(DataTable[Text]):
    """A table whose Enter shows in the footer."""

    BINDINGS: ClassVar = [Binding("enter", "select_cursor", "Open")]


class RunsScreen(FollowScreen):
    """All runs below the root, newest first; Enter opens one.

    `open_first`: open the first run that appears, for a monitor that was started before its run.
    """

    AUTO_FOCUS = "#runs"
    period = 1.0

    def __init__(self, tail: RunsTail, open_first: bool = False) -> None:
        super().__init__(tail)
        self.root = tail.root
        self.open_first = open_first
        self._keys: list[str] = []
        self._widths: list[int] = []

    def compose(self) -> ComposeResult:
        yield Static(id="runs-title", markup=False)
        yield RunsTable(id="runs", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_runs_listed(self, event: RunsListed) -> None:
        self.query_one("#runs-title", Static).update(self._title(event.runs))
        self._fill([str(facts.path) for facts in event.runs], [_cells(facts) for facts in event.runs])
        if self.open_first and event.runs:
            self.open_first = False
            self.open(RunDirectory(event.runs[0].path))

    def _fill(self, keys: list[str], rows: list[tuple[Text, ...]]) -> None:
        """Change cells in place where rows and widths stay, so that only what is new is repainted."""
        table = self.query_one(RunsTable)
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        if (keys, widths) == (self._keys, self._widths):
            for key, cells in zip(keys, rows, strict=True):
                for column, cell in zip(COLUMNS, cells, strict=True):
                    table.update_cell(key, column, cell)
            return
        under = self._keys[table.cursor_row] if table.cursor_row < len(self._keys) else None
        table.clear(columns=True)
        # With widths left to the table a first frame may show them too narrow.
        for column, width in zip(COLUMNS, widths, strict=True):
            table.add_column(column, key=column, width=width)
        for key, cells in zip(keys, rows, strict=True):
            table.add_row(*cells, key=key)
        if under in keys:  # the cursor stays on its run
            table.move_cursor(row=keys.index(under))
        self._keys, self._widths = keys, widths

    def _title(self, runs: tuple[RunFacts, ...]) -> str:
        if not runs:
            return f"no runs below {self.root} yet; start one: di4c distill digits"
        return f"{len(runs)} run{'s' if len(runs) > 1 else ''} below {self.root}"

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        if event.row_key.value is not None:
            self.open(RunDirectory(Path(event.row_key.value)))

    def open(self, run: RunDirectory) -> None:
        self.app.push_screen(RunScreen(run))


def _cells(facts: RunFacts) -> tuple[Text, ...]:
    done = share_done(facts)
    age = None if facts.updated is None else max(0.0, time.time() - facts.updated)
    return (
        Text(facts.name, style="bold"),
        Text(f"● {facts.state}", style=state_colour(facts.state).rich_color.name),
        Text(f"{facts.step:,}/{facts.steps:,}" if facts.steps else f"{facts.step:,}", justify="right"),
        Text("–" if done is None else f"{100 * done:.0f}%", justify="right"),
        Text("–" if facts.loss is None else figure(facts.loss), justify="right"),
        Text(facts.recipe),
        Text(facts.role),
        Text(duration(age), justify="right"),
    )
