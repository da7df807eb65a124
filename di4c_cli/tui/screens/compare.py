"""Several runs: their curves over each other, their evaluations and recipes side by side."""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.widgets import Footer

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.evaluation import Evaluation
from di4c_cli.tui.messages import (
    EvaluationArrived,
    MetricsArrived,
    OverviewArrived,
    RecipeArrived,
    RunFacts,
    StatusArrived,
)
from di4c_cli.tui.screens.charts import Chart, ChartGrid, ChartScreen
from di4c_cli.tui.screens.run import PANELS
from di4c_cli.tui.series import History
from di4c_cli.tui.settings import Settings
from di4c_cli.tui.tail import SeveralTails
from di4c_cli.tui.view import positions_of
from di4c_cli.tui.widgets import Colours
from di4c_cli.tui.widgets.evaluation_view import EvaluationView, Judged
from di4c_cli.tui.widgets.loss_plot import Trace
from di4c_cli.tui.widgets.pane_bar import PaneBar
from di4c_cli.tui.widgets.recipe_view import DifferencesView
from di4c_cli.tui.widgets.runs_legend import RunsLegend

PANES = ("curves", "evaluation", "differences")
_ORDER = ("loss", "marginal_plus_correlation", "correlation", "marginal", "effective_components")
"""Metrics that come first; then every loss term, then the rest."""
_TITLES = {panel.metrics[0]: panel.title for panel in PANELS if len(panel.metrics) == 1}
_TITLES |= {"marginal_plus_correlation": "marginal + correlation", "memory_mb": "memory, MB"}
_LAST = ("samples_per_s", "grad_norm", "lr", "memory_mb")


def short_names(names: list[str]) -> list[str]:
    """Run names without what they have in common: the recipe, where it is the same for all."""
    recipes = {name.split("/", 1)[0] for name in names}
    return [name.split("/", 1)[-1] for name in names] if len(recipes) == 1 else names


class CompareScreen(ChartScreen):
    """Overlays two or more runs; each keeps its colour everywhere."""

    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar = [(0, "-tiny"), (12, "-short"), (30, "-tall")]
    BINDINGS: ClassVar = [
        Binding(str(digit), f"pane({digit})", name.capitalize(), show=False)
        for digit, name in enumerate(PANES, 1)
    ]

    def __init__(
        self, runs: tuple[RunDirectory, ...], settings: Settings, colours: Colours, plain: bool = False
    ) -> None:
        runs = tuple(dict.fromkeys(runs))
        super().__init__(SeveralTails(runs), settings, plain)
        self.runs = runs
        self.names = short_names([run.name for run in runs])
        self.numbered = [f"{number} {name}" for number, name in enumerate(self.names, 1)]
        self.colours = [colours.of(run.name) for run in runs]
        self.history = {run.path: History(self.smoothing) for run in runs}
        self.facts: dict[Path, RunFacts] = {}
        self.values: dict[Path, dict[str, str]] = {run.path: {} for run in runs}
        self.evaluations: dict[Path, Evaluation] = {}
        self._overviews: dict[Path, History] = {}

    def compose(self) -> ComposeResult:
        yield RunsLegend(self.plain)
        yield PaneBar(PANES)
        with Container(id="body"):
            yield ChartGrid(id="charts")
            with Container(id="side"):
                yield EvaluationView(plain=self.plain)
                yield DifferencesView()
        yield Footer()

    def on_mount(self) -> None:
        super().on_mount()
        self._lay_out()

    # -- news --------------------------------------------------------------------------------

    def take(self, item: Any) -> None:
        match item:
            case StatusArrived(facts):
                self.facts[facts.path] = facts
                self.show_note()
            case OverviewArrived(run, batches):
                self._overviews[run] = History(self.smoothing)
                self._overviews[run].extend_all(batches)
            case MetricsArrived(run, batches, restarted, share):
                if restarted:
                    self.history[run].clear()
                self.history[run].extend_all(batches)
                if restarted or share == 1:
                    self._overviews.pop(run, None)
            case RecipeArrived(run, values) if values:
                self.values[run] = {key: value for key, value, _ in values}
                named = list(zip(self.numbered, self.colours, strict=True))
                self.query_one(DifferencesView).show(named, [self.values[run.path] for run in self.runs])
            case EvaluationArrived(run, evaluation):
                self._take_evaluation(run, evaluation)

    def on_news(self, event: Any) -> None:
        super().on_news(event)
        news_of_curves = any(isinstance(item, MetricsArrived | OverviewArrived) for item in event.items)
        if news_of_curves and not self.paused and not self.tail.behind:
            self.draw_charts()

    def _take_evaluation(self, run: Path, evaluation: Evaluation | None) -> None:
        self.evaluations.pop(run, None)
        if evaluation is not None:
            self.evaluations[run] = evaluation
        judged = [
            Judged(self.evaluations[run.path], str(number), ink)
            for number, (run, ink) in enumerate(zip(self.runs, self.colours, strict=True), 1)
            if run.path in self.evaluations
        ]
        self.query_one(EvaluationView).show(judged)

    def show_note(self) -> None:
        facts = [self.facts.get(run.path) for run in self.runs]
        note = " paused " if self.paused else ""
        self.query_one(RunsLegend).show(list(zip(self.names, self.colours, facts, strict=True)), note)

    # -- curves ------------------------------------------------------------------------------

    def histories(self) -> Iterable[History]:
        return [*self.history.values(), *self._overviews.values()]

    def charts(self) -> list[Chart]:
        histories = [self._overviews.get(run.path, self.history[run.path]) for run in self.runs]
        names = dict.fromkeys(name for history in histories for name in history.curves)
        return [self._chart(name, histories) for name in sorted(names, key=_place)]

    def _chart(self, metric: str, histories: list[History]) -> Chart:
        traces = [
            Trace(
                name, positions_of(history, self.view.axis), history.curves[metric], ink, metric == "lr", dash
            )
            for dash, (name, ink, history) in enumerate(
                zip(self.numbered, self.colours, histories, strict=True)
            )
            if metric in history.curves
        ]
        title = _TITLES.get(metric) or metric.replace("/", ": ").replace("_", " ")
        return Chart(_identifier(metric), title, traces)

    # -- panes -------------------------------------------------------------------------------

    def action_pane(self, digit: int) -> None:
        """Open or close a pane; one at least stays."""
        name, settings = PANES[digit - 1], self.settings
        side = [pane for pane in settings.compare.split() if pane in PANES[1:]]
        if name == "curves":
            settings.charts = not settings.charts or not side
        else:
            side = [pane for pane in PANES[1:] if (pane in side) != (pane == name)]
            settings.charts = settings.charts or not side
        settings.compare = " ".join(side)
        self._lay_out()

    def _lay_out(self) -> None:
        side = [pane for pane in self.settings.compare.split() if pane in PANES[1:]]
        charts = self.settings.charts or not side
        self.query_one(ChartGrid).display = charts
        self.query_one("#side").display = bool(side)
        for pane in PANES[1:]:
            self.query_one(f"#{pane}").display = pane in side
        self.query_one(PaneBar).show([*["curves"] * charts, *side])


def _identifier(metric: str) -> str:
    """Another one for every metric, and fit for an id."""
    clean = re.sub(r"[^a-zA-Z0-9_]", "-", metric)
    return clean if clean == metric else f"{clean}-{zlib.crc32(metric.encode()):x}"


def _place(metric: str) -> tuple[int, str]:
    """Sorts metrics by what they tell."""
    if metric in _ORDER:
        return _ORDER.index(metric), ""
    if metric in _LAST:
        return len(_ORDER) + 2 + _LAST.index(metric), ""
    return len(_ORDER) + (0 if "/" in metric else 1), metric
