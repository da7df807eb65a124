"""One run: status line, charts, previews."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.widgets import Footer

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.messages import MetricsArrived, PreviewsArrived, StatusArrived
from di4c_cli.tui.screens import FollowScreen
from di4c_cli.tui.series import History
from di4c_cli.tui.tail import RunTail
from di4c_cli.tui.widgets.loss_plot import PANELS, LossPlot
from di4c_cli.tui.widgets.sample_view import SampleView
from di4c_cli.tui.widgets.status_bar import StatusBar

SMOOTHING = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
DEFAULT_SMOOTHING = 2  # index


class RunScreen(FollowScreen):
    """Follows one run directory; while paused it goes on reading, and charts and previews stand still."""

    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar = [(0, "-tiny"), (12, "-short"), (30, "-tall")]
    BINDINGS: ClassVar = [
        Binding("r", "back", "Runs"),
        Binding("escape,backspace", "back", "Runs", show=False),
        Binding("s", "smooth(1)", "Smooth"),
        Binding("S", "smooth(-1)", "Less smooth", show=False),
        Binding("y", "log_y", "Log y"),
        Binding("left_square_bracket", "preview(-1)", "Earlier preview", show=False),
        Binding("right_square_bracket", "preview(1)", "Later preview", show=False),
        Binding("p", "pause", "Pause"),
        Binding("tab,right,down", "app.focus_next", "Next pane", show=False),
        Binding("shift+tab,left,up", "app.focus_previous", "Previous pane", show=False),
    ]

    def __init__(self, run: RunDirectory, plain: bool = False) -> None:
        self.run_tail = RunTail(run)
        super().__init__(self.run_tail)
        self.plain = plain
        self.paused = False
        self.smoothing = DEFAULT_SMOOTHING
        self.history = History(SMOOTHING[self.smoothing])
        self._previews: PreviewsArrived | None = None

    def compose(self) -> ComposeResult:
        yield StatusBar()
        with Container(id="body"):
            with Container(id="charts"):
                for panel in PANELS:
                    yield LossPlot(panel)
            yield SampleView(self.plain)
        yield Footer()

    # -- news --------------------------------------------------------------------------------

    def on_status_arrived(self, event: StatusArrived) -> None:
        self.query_one(StatusBar).facts = event.facts

    def on_metrics_arrived(self, event: MetricsArrived) -> None:
        if event.restarted:
            self.history.clear()
        self.history.extend(event.rows)
        self._draw_charts()

    def on_previews_arrived(self, event: PreviewsArrived) -> None:
        self._previews = event
        self._draw_previews()

    def _draw_charts(self) -> None:
        if not self.paused:
            for plot in self.query(LossPlot):
                plot.show(self.history)

    def _draw_previews(self) -> None:
        if not self.paused and self._previews is not None:
            self.query_one(SampleView).show(self._previews)

    # -- keys --------------------------------------------------------------------------------

    def action_back(self) -> None:
        self.app.pop_screen()

    def action_smooth(self, change: int) -> None:
        self.smoothing = min(max(self.smoothing + change, 0), len(SMOOTHING) - 1)
        self.history.smoothen(SMOOTHING[self.smoothing])
        self._draw_charts()
        self.notify(f"smoothing {SMOOTHING[self.smoothing]:g}", timeout=1.5)

    def action_log_y(self) -> None:
        """For the chart in focus, else for all of them alike."""
        plots = [plot for plot in self.query(LossPlot) if plot is self.focused] or list(self.query(LossPlot))
        log_y = not plots[0].log_y
        for plot in plots:
            plot.log_y = log_y

    def action_preview(self, change: int) -> None:
        """An earlier or later training step; the last one follows the run."""
        if self._previews is None:
            return
        steps = self._previews.steps
        index = min(max(steps.index(self._previews.step) + change, 0), len(steps) - 1)
        self.run_tail.wanted = None if index == len(steps) - 1 else steps[index]
        self.poll()

    def action_pause(self) -> None:
        self.paused = not self.paused
        self.query_one(StatusBar).note = " paused " if self.paused else ""
        self._draw_charts()
        self._draw_previews()
