"""A chart of some curves in braille dots: raw values dimmed behind their smoothed course."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.message import Message
from textual.strip import Strip

from di4c_cli.tui.axis import Range, duration, figure, fit, linear_labels, linear_ticks, time_ticks
from di4c_cli.tui.braille import Canvas, dash_sample
from di4c_cli.tui.series import Column, Curve, bucket
from di4c_cli.tui.view import Span, View
from di4c_cli.tui.widgets import inks
from di4c_cli.tui.widgets.plot import Cell, Label, Plot, legend_lines

_RAW = 0.65  # how far the raw curve fades into the background
_SAMPLE = 2000  # values of a long curve that decide its range
_WHEEL = 1.25
_DASH = 2  # cells of its pattern before a name in the legend
_SLIDE = 0.1  # share of the window that one notch of a sideways wheel moves


@dataclass(frozen=True)
class Trace:
    """One curve in a chart. `ink`: index in the palette; None: the colour of text. A `planned` one has no
    noise to smooth. `dash`: its pattern where there are no colours; None: by its place in the chart.
    """

    name: str
    positions: array
    curve: Curve
    ink: int | None
    planned: bool = False
    dash: int | None = None

    @property
    def smooth(self) -> Column:
        return self.curve.raw if self.planned else self.curve.smooth

    @property
    def placed(self) -> bool:
        """Its rows have positions of their own; where they tell no times, all of them stand at 0."""
        return len(self.positions) <= 1 or self.positions[-1] > self.positions[0]

    def rows(self, span: Span) -> tuple[int, int]:
        """First row within the span, and the one after the last."""
        if not self.placed:
            return 0, 0
        return bisect_left(self.positions, span[0]), bisect_right(self.positions, span[1])

    def value(self, position: float | None) -> float:
        """The raw value at a position or before it; without one, the newest."""
        raw = self.curve.raw
        return raw.last() if position is None else raw.last(bisect_right(self.positions, position))

    def samples(self, span: Span, log: bool) -> tuple[Sequence[float], Sequence[float]]:
        """Smoothed and raw values that decide the range of the chart."""
        begin, end = self.rows(span)
        every = (end - begin) // _SAMPLE + 1
        smooth = self.smooth.positive() if log else self.smooth
        return smooth.extremes(begin, end), self.curve.raw.values[begin:end:every]

    def hides(self, span: Span) -> bool:
        """Some of its values have no place on a logarithmic axis."""
        return self.curve.raw.extremes(*self.rows(span))[0] <= 0


class LossPlot(Plot):
    """One chart of the grid, drawn line by line."""

    @dataclass
    class Pointed(Message):
        """The mouse points at a position."""

        position: float

    @dataclass
    class Zoomed(Message):
        """The wheel was turned over a position."""

        factor: float
        position: float

    @dataclass
    class Panned(Message):
        """The wheel was turned sideways."""

        share: float

    def __init__(self, name: str, title: str, dashed: bool = False) -> None:
        super().__init__(id=f"plot-{name}")
        self.title, self.dashed = title, dashed
        self.log_y = False
        self._traces: list[Trace] = []
        self._view = View()
        self._span: Span = (0.0, 0.0)
        self._range: Range | None = None

    def show(self, traces: list[Trace], view: View, span: Span) -> None:
        """Draw these curves within `span`; a chart without any hides itself."""
        self._traces, self._view, self._span = traces, view, span
        self.display = bool(traces)
        self._update()

    def set_log(self, log_y: bool) -> None:
        self.log_y = log_y
        self._update()

    def _update(self) -> None:
        traces, span = self._traces, self._span
        log = fit((trace.samples(span, True) for trace in traces), True) if self.log_y else None
        self._range = log or fit((trace.samples(span, False) for trace in traces), False)
        notes = [figure(traces[0].value(self._view.cursor))] if len(traces) == 1 else []
        if self.log_y and log is None:
            notes.insert(0, "linear: nothing > 0")
        elif self.log_y:
            notes.insert(0, "log y")
            if any(trace.hides(span) for trace in traces):
                notes.insert(1, "≤ 0 hidden")
        self.border_title = self.title
        self.border_subtitle = " · ".join(notes)
        self.redraw()

    # -- the mouse ---------------------------------------------------------------------------

    def _position(self, event: events.MouseEvent) -> float:
        offset = event.get_content_offset_capture(self)
        columns = max(1, self.content_size.width - self.label_width - 1)
        share = min(max((offset.x - self.label_width) / columns, 0.0), 1.0)
        return self._span[0] + share * (self._span[1] - self._span[0])

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self.capture_mouse()
        self.post_message(self.Pointed(self._position(event)))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self:
            self.post_message(self.Pointed(self._position(event)))

    def on_mouse_up(self, _: events.MouseUp) -> None:
        self.release_mouse()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Zoomed(_WHEEL, self._position(event)))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Zoomed(1 / _WHEEL, self._position(event)))

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        event.stop()
        self.post_message(self.Panned(-_SLIDE))

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        event.stop()
        self.post_message(self.Panned(_SLIDE))

    # -- drawing -----------------------------------------------------------------------------

    def draw(self) -> list[Strip]:
        width, height = self.content_size
        legend = self._legend(width, height) if len(self._traces) > 1 else []
        height -= len(legend)
        if height < 1 or self._range is None:
            return [*legend, Strip([Segment("nothing to draw here", Style(italic=True))])]
        field = partial(self._field, self._range)
        return legend + self.framed(self._range, width, height, field, self._labels)

    def _colours(self) -> list[Color]:
        palette, front = inks(self), self.colors[3]
        return [front if trace.ink is None else palette[trace.ink % len(palette)] for trace in self._traces]

    def _legend(self, width: int, height: int) -> list[Strip]:
        """Every curve's name and value; where there are no colours, its pattern before them."""
        marks, bold = [Style(color=c.rich_color, bold=True) for c in self._colours()], Style(bold=True)
        entries = [(trace.name, figure(trace.value(self._view.cursor))) for trace in self._traces]
        samples = [f"{dash_sample(self._dash(index), _DASH)} " for index in range(len(entries))]
        most, lead = 2 if height >= 7 else 1, (_DASH + 1) * self.dashed
        lines = legend_lines(entries, width, most, lead)
        if lead and sum(map(len, lines)) < len(entries):  # rather all names than some with their patterns
            lines, lead = legend_lines(entries, width, most), 0
        strips = []
        for line in lines:
            segments: list[Segment] = []
            for index, name, value in line:
                head = samples[index] if lead else ""
                segments += [Segment(f"{head}{name} ", marks[index]), Segment(f"{value}  ", bold)]
            strips.append(Strip(segments).crop(0, width))
        used = len(strips[-1].text.rstrip())
        if sum(map(len, lines)) < len(entries) and used + 1 < width:  # there are more than fit
            strips[-1] = Strip([*strips[-1].crop(0, used), Segment(" …")])
        return strips

    def _field(self, values: Range, columns: int, rows: int) -> Callable[[int, int], Cell | None]:
        ground, colours = self.background_colors[1], self._colours()
        raw, smooth = self._canvases(values, columns, rows)
        bright = [Style(color=colour.rich_color) for colour in colours]
        dim = [Style(color=colour.blend(ground, _RAW).rich_color) for colour in colours]
        line = self._cursor_column(columns)
        pointer = Style(color=self.colors[3].rich_color)

        def cell(x: int, y: int) -> Cell | None:
            text, ink = smooth.cell(x, y)
            if ink is not None:
                return text, bright[ink]
            if x == line:
                return "│", pointer
            text, ink = raw.cell(x, y)
            return None if ink is None else (text, dim[ink])

        return cell

    def _cursor_column(self, columns: int) -> int:
        cursor, (start, stop) = self._view.cursor, self._span
        if cursor is None or not start <= cursor <= stop:
            return -1
        return round((cursor - start) / max(stop - start, 1e-9) * (columns - 1))

    def _canvases(self, values: Range, width: int, height: int) -> tuple[Canvas, Canvas]:
        """The raw and the smoothed curves; the first curve is drawn last, on top."""
        raw, smooth = Canvas(width, height), Canvas(width, height)
        row = values.rows(raw.rows)
        placed = [(ink, trace) for ink, trace in enumerate(self._traces) if trace.placed]
        for ink, trace in reversed(placed):
            layers = [(smooth, trace.smooth)]
            if trace.smooth is not trace.curve.raw:
                layers.insert(0, (raw, trace.curve.raw))
            for canvas, column in layers:
                shown = column.positive() if values.log else column
                buckets = bucket(trace.positions, shown, *self._span, canvas.columns)
                canvas.curve(buckets, row, ink, self._dash(ink))
        return raw, smooth

    def _dash(self, index: int) -> int:
        """The pattern of a curve: solid where colours tell them apart."""
        dash = self._traces[index].dash
        return 0 if not self.dashed else index if dash is None else dash

    def _labels(self, columns: int) -> Sequence[Label]:
        """The last position at the end, round ones under their columns; the cursor's before all others."""
        start, stop = self._span
        count = max(1, columns // 9)
        if self._view.axis == "time":
            ticks, end = time_ticks(start, stop, count), duration(stop)
        else:
            steps = linear_ticks(start, stop, count)
            ticks, end = list(zip(steps, linear_labels(steps), strict=True)), f"step {stop:,.0f}"
        labels = [((at - start) / max(stop - start, 1e-9), label) for at, label in ticks]
        cursor = self._view.cursor
        if cursor is None or not start <= cursor <= stop:
            return [*labels, (1.0, end)]
        told = duration(cursor) if self._view.axis == "time" else f"▲ {cursor:,.0f}"
        return [*labels, ((cursor - start) / max(stop - start, 1e-9), told)]
