"""The list of runs."""

from pathlib import Path
from typing import Any, ClassVar

from rich.style import Style
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Footer, Input, Static

from di4c_cli.runs import RunDirectory, age, one_line
from di4c_cli.tui.axis import figure
from di4c_cli.tui.messages import RunFacts, RunsListed
from di4c_cli.tui.screens import FollowScreen
from di4c_cli.tui.tail import RunsTail
from di4c_cli.tui.widgets import Colours, inks
from di4c_cli.tui.widgets.filter_line import FilterLine
from di4c_cli.tui.widgets.runs_table import Row, RunsTable
from di4c_cli.tui.widgets.status_bar import share_done, state_colour


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
        self._drawn: dict[str, tuple[object, Row]] = {}  # rows by path, and what they were made of
        self._told = ""

    def compose(self) -> ComposeResult:
        yield Static(id="runs-title", markup=False)
        yield RunsTable()
        yield FilterLine("words of name, state, recipe or role")
        yield Footer()

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
        self._tell(self._title(len(shown), bool(words)))
        self.query_one(RunsTable).show({str(facts.path): self._row(facts) for facts in shown})

    def _tell(self, title: str) -> None:
        if title != self._told:  # to set it is to repaint it
            self._told = title
            self.query_one("#runs-title", Static).update(title)

    def _row(self, facts: RunFacts) -> Row:
        """The cells of a run, made anew only where they say something else."""
        path = str(facts.path)
        told = (facts, path in self.marked, _age(facts), self.app.theme)
        if path not in self._drawn or self._drawn[path][0] != told:
            self._drawn[path] = (told, self._new_row(facts))
        return self._drawn[path][1]

    def _title(self, shown: int, filtered: bool) -> str:
        num, root = len(self._runs), one_line(str(self.root))
        if not num:
            return f"no runs below {root} yet; start one: n, or di4c distill digits"
        of = f"{shown:,} of " if filtered else ""
        marked = len(self._marked_runs())
        note = f" · {marked} marked, c compares them" if marked else ""
        return f"{of}{num:,} run{'s' if num > 1 else ''} below {root}{note}"

    def _new_row(self, facts: RunFacts) -> Row:
        done = share_done(facts)
        mark = str(facts.path) in self.marked
        colour = inks(self)[self.colours.of(facts.name)].rich_color if mark else None
        bold, plain = Style(color=colour, bold=True), Style()
        return (
            ("■" if mark else " ", bold),
            (facts.name, bold),
            (f"● {facts.state}", Style(color=state_colour(facts.state, inks(self)).rich_color)),
            (f"{facts.step:,}/{facts.steps:,}" if facts.steps else f"{facts.step:,}", plain),
            ("–" if done is None else f"{100 * done:.0f}%", plain),
            ("–" if facts.loss is None else figure(facts.loss), plain),
            ("–" if facts.samples_per_s is None else f"{figure(facts.samples_per_s)}/s", plain),
            (facts.recipe, plain),
            (facts.role, plain),
            (_age(facts), plain),
        )

    # -- keys --------------------------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark the run under the cursor or take the mark back, and go on to the next."""
        table = self.query_one(RunsTable)
        path = table.under_cursor
        if path is None:
            return
        if path in self.marked:
            del self.marked[path]
        else:
            self.marked[path] = None
        self._draw()
        table.action_move(1)

    def _marked_runs(self) -> tuple[RunDirectory, ...]:
        """Those that are still there, in the order of their marks."""
        here = {str(facts.path) for facts in self._runs} if self.marked else set()
        return tuple(RunDirectory(Path(path)) for path in self.marked if path in here)

    def action_compare(self) -> None:
        runs = self._marked_runs()
        if len(runs) < 2:
            self.notify("mark two runs or more with Space", timeout=3)
            return
        self.app.compare(runs)

    def action_filter(self) -> None:
        self.query_one(FilterLine).open()

    def action_clear_filter(self) -> None:
        line = self.query_one(FilterLine)
        if line.display:
            line.clear_and_close(self.query_one(RunsTable))
        else:
            self.marked.clear()
            self._draw()

    def on_input_changed(self, _: Input.Changed) -> None:
        self._draw()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self.query_one(RunsTable).focus()

    def action_stop_run(self) -> None:
        if path := self.query_one(RunsTable).under_cursor:
            self.app.stop_run(RunDirectory(Path(path)))

    def on_runs_table_opened(self, event: RunsTable.Opened) -> None:
        self.open(Path(event.key))

    def open(self, path: Path) -> None:
        self.app.open_run(RunDirectory(path))


def _searched(facts: RunFacts) -> str:
    return f"{facts.name} {facts.state} {facts.recipe} {facts.role}".lower()


def _age(facts: RunFacts) -> str:
    """What changes every second would cost much in a long list."""
    if facts.updated is None:
        return "–"
    told = age(facts.updated)
    return "now" if told.endswith(" s") else told
