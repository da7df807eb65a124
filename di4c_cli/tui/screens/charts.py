"""Screens with a grid of charts: one view, one smoothing and one set of keys for all of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widget import Widget

from di4c_cli.tui.screens import FollowScreen, Tail
from di4c_cli.tui.series import History
from di4c_cli.tui.settings import SMOOTHING, Settings
from di4c_cli.tui.view import View, whole_span
from di4c_cli.tui.widgets.log_pane import LogPane
from di4c_cli.tui.widgets.loss_plot import LossPlot, Trace
from di4c_cli.tui.widgets.plot import Plot
from di4c_cli.tui.widgets.recipe_view import FilteredTable

_STEP = 0.02  # share of the window that the cursor moves at once
_FAR = 0.2
_ZOOM = 1.5
_CLOSEST = 4  # rows of metrics that a window has at least
_MOST_COLUMNS = 4


@dataclass(frozen=True)
class Chart:
    """One chart of the grid: a name that is fit for an id, a title, and its curves."""

    name: str
    title: str
    traces: list[Trace]


class ChartGrid(VerticalScroll, can_focus=False):
    """The charts of a screen."""


class ChartScreen(FollowScreen):
    """Knows the view on the curves; what stands in the charts is its children's."""

    BINDINGS: ClassVar = [
        Binding("s", "smooth(1)", "Smooth"),
        Binding("S", "smooth(-1)", "Less smooth", show=False),
        Binding("y", "log_y", "Log y"),
        Binding("x", "axis", "Steps or time"),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False),
        Binding("minus", "zoom(-1)", "Zoom out", show=False),
        Binding("less_than_sign,comma,shift+left", "pan(-1)", "Pan back", show=False),
        Binding("greater_than_sign,full_stop,shift+right", "pan(1)", "Pan on", show=False),
        Binding("left", "point(-1)", "Cursor left", show=False),
        Binding("right", "point(1)", "Cursor right", show=False),
        Binding("ctrl+left", "point(-10)", "Cursor far left", show=False),
        Binding("ctrl+right", "point(10)", "Cursor far right", show=False),
        Binding("0", "reset", "Whole curves", show=False),
        Binding("c", "columns", "Chart columns", show=False),
        Binding("m,enter", "maximise", "Enlarge the chart", show=False),
        Binding("slash", "filter", "Filter", show=False),
        Binding("p", "pause", "Pause"),
        Binding("tab,down", "app.focus_next", "Next pane", show=False),
        Binding("shift+tab,up", "app.focus_previous", "Previous pane", show=False),
        Binding("escape,backspace", "back", "Back", show=False),
    ]

    def __init__(self, tail: Tail, settings: Settings, plain: bool) -> None:
        super().__init__(tail)
        self.settings, self.plain = settings, plain
        self.view = View("time" if settings.axis == "time" else "step")
        self.paused = False

    @property
    def smoothing(self) -> float:
        return SMOOTHING[self.settings.smoothing]

    def histories(self) -> Iterable[History]:
        """All that is shown, for smoothing and for the span of the x axis."""
        raise NotImplementedError

    def charts(self) -> list[Chart]:
        raise NotImplementedError

    def on_mount(self) -> None:
        super().on_mount()
        self._set_columns()

    # -- drawing -----------------------------------------------------------------------------

    def draw_charts(self) -> None:
        """Show every chart as it is now, in their order; those that are new are added."""
        grid = self.query_one(ChartGrid)
        self._fall_back_to_steps()
        span = self.view.span(self._whole())
        plots = {plot.id: plot for plot in grid.query(LossPlot)}
        before: LossPlot | None = None
        for chart in self.charts():
            plot = plots.pop(f"plot-{chart.name}", None)
            if plot is None:
                plot = LossPlot(chart.name, chart.title, dashed=self.plain)
                plot.log_y = self.settings.log_y
                grid.mount(plot, after=before) if before else grid.mount(plot, before=0)
            plot.show(chart.traces, self.view, span)
            before = plot
        for plot in plots.values():  # nothing to show in it any more
            plot.show([], self.view, span)

    def _fall_back_to_steps(self) -> None:
        """Rows without times have no place on an axis of time."""
        known = [history for history in self.histories() if len(history.steps) > 1]
        if self.view.axis == "time" and known and not any(history.timed for history in known):
            self.view = View("step")

    def look(self, view: View) -> None:
        """Another view: cheaper than new data, and wanted at once."""
        if view != self.view:
            self.view = view
            self.draw_charts()

    def _whole(self) -> tuple[float, float]:
        return whole_span(self.histories(), self.view.axis)

    # -- keys --------------------------------------------------------------------------------

    def action_smooth(self, change: int) -> None:
        self.settings.smoothing = min(max(self.settings.smoothing + change, 0), len(SMOOTHING) - 1)
        for history in self.histories():
            history.smoothen(self.smoothing)
        self.draw_charts()
        self.notify(f"smoothing {self.smoothing:g}", timeout=1.5)

    def action_log_y(self) -> None:
        """For the chart in focus, else for all of them alike."""
        plots = [plot for plot in self.query(LossPlot) if plot is self.focused] or list(self.query(LossPlot))
        log_y = not plots[0].log_y if plots else False
        for plot in plots:
            plot.set_log(log_y)
        if len(plots) > 1:
            self.settings.log_y = log_y

    def action_axis(self) -> None:
        wanted = "step" if self.view.axis == "time" else "time"
        self.look(View(wanted))
        self.settings.axis = self.view.axis
        if self.view.axis != wanted:
            self.notify("these rows do not tell when they were written", timeout=3)

    def action_zoom(self, direction: int) -> None:
        self._zoom(_ZOOM**direction, None)

    def _zoom(self, factor: float, about: float | None) -> None:
        whole = self._whole()
        rows = max((len(history.steps) for history in self.histories()), default=0)
        closest = _CLOSEST * (whole[1] - whole[0]) / max(rows, 1)
        self.look(self.view.zoom(factor, about, whole, closest))

    def action_pan(self, direction: int) -> None:
        self.look(self.view.pan(direction * _FAR, self._whole()))

    def action_point(self, amount: int) -> None:
        if any(history.steps for history in self.histories()):
            self.look(self.view.point(amount * _STEP, self._whole()))

    def action_reset(self) -> None:
        self.look(View(self.view.axis))

    def action_columns(self) -> None:
        self.settings.columns = number = self.settings.columns % _MOST_COLUMNS + 1
        self._set_columns()
        small = self.has_class("-narrow") or self.has_class("-tiny")
        where = " in a larger terminal; one in this" if small else ""
        self.notify(f"{number} column{'s' if number > 1 else ''} of charts{where}", timeout=1.5)

    def _set_columns(self) -> None:
        """As a class: a narrow screen has its own mind."""
        for number in range(1, _MOST_COLUMNS + 1):
            self.query_one(ChartGrid).set_class(number == self.settings.columns, f"columns-{number}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While one chart or pane fills the screen, no other is opened behind it."""
        return action != "pane" or self.maximized is None

    def action_maximise(self) -> None:
        """The chart or pane in focus, else the first chart."""
        if self.maximized is not None:
            self.minimize()
        elif (chosen := self._in_focus()) is not None:
            self.maximized = chosen

    def _in_focus(self) -> Widget | None:
        if self.focused is None:
            return next((plot for plot in self.query(Plot) if plot.display), None)
        if isinstance(self.focused, Plot):
            return self.focused
        side = self.query_one("#side")
        return next(
            (pane for pane in side.children if self.focused in pane.walk_children(with_self=True)), None
        )

    def action_filter(self) -> None:
        """That of the pane that is open, wherever the focus is."""
        side = self.query_one("#side")
        for pane in side.children if side.display else ():
            if pane.display and isinstance(pane, FilteredTable | LogPane):
                pane.action_filter()
                return
        self.notify("recipes and logs can be filtered, where their pane is open", timeout=3)

    def action_pause(self) -> None:
        self.paused = not self.paused
        self.show_note()
        if not self.paused:
            self.draw_all()

    def action_back(self) -> None:
        """One layer out: the enlarged chart, the cursor, the zoom, then the screen."""
        if self.maximized is not None:
            self.minimize()
        elif self.view.cursor is not None:
            self.look(replace(self.view, cursor=None))
        elif self.view != View(self.view.axis):
            self.action_reset()
        else:
            self.app.pop_screen()

    def show_note(self) -> None:
        """Say what the viewer itself is doing, as "paused"."""
        raise NotImplementedError

    def draw_all(self) -> None:
        """Everything anew, after a pause."""
        self.draw_charts()

    # -- the mouse in the charts -------------------------------------------------------------

    def on_loss_plot_pointed(self, event: LossPlot.Pointed) -> None:
        self.look(replace(self.view, cursor=event.position))

    def on_loss_plot_zoomed(self, event: LossPlot.Zoomed) -> None:
        self._zoom(event.factor, event.position)

    def on_loss_plot_panned(self, event: LossPlot.Panned) -> None:
        self.look(self.view.pan(event.share, self._whole()))
