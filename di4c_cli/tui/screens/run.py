"""One run: status line, charts, and beside them samples, evaluation, recipe, log or system."""

import tempfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.widgets import ContentSwitcher, Footer

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.drawing import DrawError, DrawRequest, draw
from di4c_cli.tui.evaluation import Evaluation
from di4c_cli.tui.messages import (
    EvaluationArrived,
    MetricsArrived,
    OverviewArrived,
    PreviewsArrived,
    RecipeArrived,
    RunFacts,
    StatusArrived,
)
from di4c_cli.tui.opening import open_in_viewer
from di4c_cli.tui.screens.charts import Chart, ChartGrid, ChartScreen
from di4c_cli.tui.screens.draw_samples import DrawSamplesScreen
from di4c_cli.tui.series import Curve, History
from di4c_cli.tui.settings import Settings
from di4c_cli.tui.tail import RunTail
from di4c_cli.tui.view import positions_of
from di4c_cli.tui.widgets.evaluation_view import EvaluationView, Judged, frontier
from di4c_cli.tui.widgets.frontier import FrontierPlot
from di4c_cli.tui.widgets.log_pane import LogPane
from di4c_cli.tui.widgets.loss_plot import LossPlot, Trace
from di4c_cli.tui.widgets.pane_bar import PaneBar
from di4c_cli.tui.widgets.recipe_view import RecipeView
from di4c_cli.tui.widgets.sample_pane import Drawn, SamplePane
from di4c_cli.tui.widgets.status_bar import StatusBar
from di4c_cli.tui.widgets.system_view import SystemView

PANES = ("charts", "samples", "evaluation", "recipe", "log", "system")


class Panel(NamedTuple):
    """Which metrics (shell patterns) stand together in one chart. A `planned` one has no noise to smooth."""

    name: str
    title: str
    metrics: tuple[str, ...]
    planned: bool = False


PANELS = (
    Panel("loss", "loss", ("loss", "loss/*")),
    Panel("mixture", "marginal + correlation", ("marginal", "marginal_plus_correlation", "correlation")),
    Panel("components", "effective components", ("effective_components",)),
    Panel("lr", "learning rate", ("lr",), planned=True),
    Panel("speed", "samples per second", ("samples_per_s",)),
)
_SHORT = {"marginal_plus_correlation": "sum"}


def short_name(metric: str) -> str:
    return _SHORT.get(metric, metric.rsplit("/", 1)[-1])


def pick(panel: Panel, history: History) -> dict[str, Curve]:
    """The curves of a panel by the name shown, in the order of its metrics."""
    picked: dict[str, Curve] = {}
    for pattern in panel.metrics:
        for metric, curve in history.curves.items():
            if fnmatchcase(metric, pattern):
                picked.setdefault(short_name(metric), curve)
    return picked


def chart_of(panel: Panel, history: History, axis: Any) -> Chart:
    """The total among several losses has the colour of text."""
    curves = pick(panel, history)
    total = next(iter(curves), None) == "loss" and len(curves) > 1
    positions = positions_of(history, axis)
    traces = [
        Trace(name, positions, curve, None if total and index == 0 else index - total, panel.planned)
        for index, (name, curve) in enumerate(curves.items())
    ]
    return Chart(panel.name, panel.title, traces)


class RunScreen(ChartScreen):
    """Follows one run directory; while paused it goes on reading, and charts and samples stand still."""

    BINDINGS: ClassVar = [
        Binding("r", "draw_samples", "New samples"),
        Binding("K", "stop_run", "Stop the run"),
        *(
            Binding(str(digit), f"pane({digit})", name.capitalize(), show=False)
            for digit, name in enumerate(PANES, 1)
        ),
        Binding("left_square_bracket", "slide('training',-1)", "Earlier preview", show=False),
        Binding("right_square_bracket", "slide('training',1)", "Later preview", show=False),
        Binding("left_curly_bracket", "slide('sampling',-1)", "Fewer sampling steps", show=False),
        Binding("right_curly_bracket", "slide('sampling',1)", "More sampling steps", show=False),
        Binding("k", "pictures", "Pictures in blocks or pixels", show=False),
        Binding("o", "open", "Open samples in the viewer", show=False),
    ]

    def __init__(self, run: RunDirectory, settings: Settings, plain: bool = False) -> None:
        self.run_tail = RunTail(run)
        super().__init__(self.run_tail, settings, plain)
        self.run_directory = run
        self.facts: RunFacts | None = None
        self.history = History(self.smoothing)
        self._overview: History | None = None
        self._previews: PreviewsArrived | None = None

    def compose(self) -> ComposeResult:
        yield StatusBar()
        yield PaneBar(PANES)
        with Container(id="body"):
            with ChartGrid(id="charts"):
                for panel in PANELS:
                    yield LossPlot(panel.name, panel.title, dashed=self.plain)
                yield FrontierPlot("plot-evaluation")
            with ContentSwitcher(id="side", initial=None):
                yield SamplePane(self.plain, self._pictures())
                yield EvaluationView()
                yield RecipeView()
                yield LogPane(self.run_directory.log_path)
                yield SystemView()
        yield Footer()

    def on_mount(self) -> None:
        super().on_mount()
        for plot in self.query(LossPlot):
            plot.log_y = self.settings.log_y
        self.query_one("#plot-evaluation").display = False
        self._lay_out()

    # -- news --------------------------------------------------------------------------------

    def take(self, item: Any) -> None:
        match item:
            case StatusArrived(facts):
                self.facts = facts
                self.query_one(StatusBar).facts = facts
                self.query_one(SystemView).watch_process(facts.pid or None, facts.host)
            case OverviewArrived():
                self._overview = History(self.smoothing)
                self._overview.extend_all(item.batches)
                self._draw_new()
            case MetricsArrived():
                self._take_metrics(item)
            case PreviewsArrived():
                self._previews = item
                if not self.paused:
                    self.query_one(SamplePane).show(item)
            case RecipeArrived():
                self.query_one(RecipeView).show(item.values)
            case EvaluationArrived():
                self._take_evaluation(item.evaluation)

    def _take_metrics(self, item: MetricsArrived) -> None:
        if item.restarted:
            self.history.clear()
            self._overview = None
        self.history.extend_all(item.batches)
        if item.share < 1:
            for curve in self.history.curves.values():
                _ = curve.smooth  # by and by, rather than all of it when it is drawn
            self.show_note(f"reading {100 * item.share:.0f}%")
            return
        if self._overview is not None:
            self._overview = None
            self.show_note()
        self._draw_new()

    def _take_evaluation(self, evaluation: Evaluation | None) -> None:
        judged = [Judged(evaluation)] if evaluation else []
        self.query_one(EvaluationView).show(judged)
        points = self.query_one("#plot-evaluation", FrontierPlot)
        points.display = bool(judged)
        points.show(*frontier(judged))

    def histories(self) -> Iterable[History]:
        return [self.history, *([self._overview] if self._overview else [])]

    def charts(self) -> list[Chart]:
        history = self._overview or self.history
        return [chart_of(panel, history, self.view.axis) for panel in PANELS]

    def _draw_new(self) -> None:
        if not self.paused:
            self.draw_charts()

    def draw_all(self) -> None:
        self.draw_charts()
        if self._previews is not None:
            self.query_one(SamplePane).show(self._previews)

    def show_note(self, reading: str = "") -> None:
        notes = [note for note in ("paused" if self.paused else "", reading) if note]
        self.query_one(StatusBar).note = f" {', '.join(notes)} " if notes else ""

    # -- panes -------------------------------------------------------------------------------

    def action_pane(self, digit: int) -> None:
        """Open or close a pane; one of the two sides is always open."""
        name, settings = PANES[digit - 1], self.settings
        if name == "charts":
            settings.charts = not settings.charts or not settings.side
        else:
            settings.side = "" if settings.side == name else name
            settings.charts = settings.charts or not settings.side
        self._lay_out()

    def _lay_out(self) -> None:
        settings = self.settings
        side = settings.side if settings.side in PANES[1:] else ""
        self.query_one(ChartGrid).display = settings.charts or not side
        switcher = self.query_one("#side", ContentSwitcher)
        switcher.display = bool(side)
        switcher.current = side or None
        self.query_one(PaneBar).show([*["charts"] * settings.charts, *([side] if side else [])])

    # -- samples -----------------------------------------------------------------------------

    def action_slide(self, slider: str, change: int) -> None:
        self.query_one(SamplePane).move(slider, change)

    def on_sample_pane_wanted(self, event: SamplePane.Wanted) -> None:
        self.run_tail.wanted = event.step
        self.poll()

    def _pictures(self) -> str:
        """The way of showing pictures that is remembered, if this terminal has it."""
        known = self.app.pictures
        return self.settings.pictures if self.settings.pictures in known else known[0]

    def action_pictures(self) -> None:
        known = self.app.pictures
        if len(known) == 1:
            self.notify("half blocks; pixels need di4c[images] and a terminal with kitty or sixel", timeout=5)
            return
        self.settings.pictures = known[(known.index(self._pictures()) + 1) % len(known)]
        self.query_one(SamplePane).show_by(self.settings.pictures)
        self.notify(f"pictures: {self.settings.pictures}", timeout=1.5)

    def action_open(self) -> None:
        """What is shown, in the system's own viewer."""
        folder = self.query_one(SamplePane).folder
        if folder is None:
            self.notify("no samples yet", timeout=2)
        elif problem := open_in_viewer(folder):
            self.notify(problem, timeout=6)

    # -- processes of their own --------------------------------------------------------------

    def action_stop_run(self) -> None:
        self.app.stop_run(self.run_directory)

    def action_draw_samples(self) -> None:
        """Ask what to draw; a worker process draws it."""
        if self.facts is None or not self.facts.role:
            self.notify("no run here yet", timeout=2)
            return
        steps = self.query_one(SamplePane).sampling_steps[-1:] or (1,)

        def asked(request: DrawRequest | None) -> None:
            if request is not None:
                self.run_worker(self._draw_samples(request), group="draw")

        self.app.push_screen(DrawSamplesScreen(self.facts.role, steps[0]), asked)

    async def _draw_samples(self, request: DrawRequest) -> None:
        pane = self.query_one(SamplePane)
        steps = f"{request.steps} step{'s' if request.steps != 1 else ''}"
        self.notify(f"drawing {request.num} samples at {steps} in a process of its own", timeout=4)
        try:
            folder = Path(tempfile.mkdtemp(dir=self.app.scratch.name))
            previews = await draw(self.run_directory, request, folder)
        except (DrawError, OSError) as error:
            self.notify(str(error), title="no samples", severity="error", timeout=10)
            return
        pane.add(
            Drawn(f"seed {request.seed}", f"drawn now at {steps}, seed {request.seed}", folder, previews)
        )
