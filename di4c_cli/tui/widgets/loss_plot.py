"""A chart of some curves in braille dots: raw values dimmed behind their smoothed course."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.reactive import reactive
from textual.strip import Strip

from di4c_cli.tui.axis import Range, figure, fit, linear_labels, linear_ticks, positive
from di4c_cli.tui.braille import DOTS_X, Canvas
from di4c_cli.tui.series import Curve, History, bucket, latest
from di4c_cli.tui.widgets import PALETTE, LineWidget

_RAW = 0.65  # how far the raw curve fades into the background
_FAINT = 0.8  # the same for the grid
_MIN_PLOT = 8  # cells of plot width below which the labels give way
Cell = tuple[str, Style]


@dataclass(frozen=True)
class Panel:
    """Which metrics (shell patterns) stand together in one chart. A `planned` one has no noise to smooth."""

    name: str
    title: str
    metrics: tuple[str, ...]
    planned: bool = False

    def pick(self, history: History) -> dict[str, Curve]:
        """The curves of this panel by the name shown, in the order of `metrics`."""
        picked = {}
        for pattern in self.metrics:
            for metric, curve in history.curves.items():
                if curve.steps and fnmatchcase(metric, pattern):
                    picked.setdefault(_SHORT.get(metric, metric.rsplit("/", 1)[-1]), curve)
        return picked


_SHORT = {"marginal_plus_correlation": "sum"}
PANELS = (
    Panel("loss", "loss", ("loss", "loss/*")),
    Panel("mixture", "marginal + correlation", ("marginal", "correlation", "marginal_plus_correlation")),
    Panel("components", "effective components", ("effective_components",)),
    Panel("lr", "learning rate", ("lr",), planned=True),
    Panel("speed", "samples per second", ("samples_per_s",)),
)


class LossPlot(LineWidget, can_focus=True):
    """One panel of the chart grid, drawn line by line."""

    log_y: reactive[bool] = reactive(False)

    def __init__(self, panel: Panel) -> None:
        super().__init__(id=f"plot-{panel.name}")
        self.panel = panel
        self._curves: dict[str, Curve] = {}
        self._range: Range | None = None

    def show(self, history: History) -> None:
        """Draw the panel's curves as they are now; a panel without any hides itself."""
        self._curves = self.panel.pick(history)
        self.display = bool(self._curves)
        self._update()

    def watch_log_y(self) -> None:
        self._update()

    def _update(self) -> None:
        curves = self._curves.values()
        log = fit(curves, True) if self.log_y else None
        self._range = log or fit(curves, False)
        notes = [figure(latest(curve)) for curve in curves] if len(curves) == 1 else []
        if self.log_y:
            hidden = sum(sum(value <= 0 for value in curve.raw) for curve in curves)
            notes.insert(0, "linear: nothing > 0" if log is None else "log y")
            if log is not None and hidden:
                notes.insert(1, f"{hidden} ≤ 0 hidden")
        self.border_title = self.panel.title
        self.border_subtitle = " · ".join(notes)
        self.redraw()

    # -- drawing -----------------------------------------------------------------------------

    def draw(self) -> list[Strip]:
        width, height = self.content_size
        legend = self._legend(width, height) if len(self._curves) > 1 else []
        height -= len(legend)
        if height < 1 or self._range is None:
            return legend
        x_axis = height >= 4
        return legend + self._plot(self._range, width, height - x_axis, x_axis)

    def _colours(self) -> tuple[Color, Color, list[Color]]:
        """Background, foreground, and one colour per curve; the total among several is the foreground."""
        ground, front = self.background_colors[1], self.colors[3]
        names = list(self._curves)
        total = names[0] == "loss" and len(names) > 1
        own = [PALETTE[(index - total) % len(PALETTE)] for index in range(len(names))]
        return ground, front, ([front, *own[1:]] if total else own)

    def _legend(self, width: int, height: int) -> list[Strip]:
        _, _, colours = self._colours()
        marks, bold = [Style(color=colour.rich_color, bold=True) for colour in colours], Style(bold=True)
        entries = [(name, figure(latest(curve))) for name, curve in self._curves.items()]
        lines = legend_lines(entries, width, 2 if height >= 7 else 1)
        strips = []
        for line in lines:
            segments: list[Segment] = []
            for index, name, value in line:
                segments += [Segment(f"{name} ", marks[index]), Segment(f"{value}  ", bold)]
            strips.append(Strip(segments).crop(0, width))
        return strips

    def _plot(self, values: Range, width: int, height: int, x_axis: bool) -> list[Strip]:
        ground, front, colours = self._colours()
        faint = Style(color=front.blend(ground, _FAINT).rich_color)
        muted = Style(color=front.blend(ground, 0.45).rich_color)
        ticks = self._tick_rows(values, height)
        gutter = max((len(label) for label in ticks.values()), default=0) + 1
        if width - gutter < _MIN_PLOT:
            gutter = 0
        raw, smooth = self._canvases(values, width - gutter, height)
        bright = [Style(color=colour.rich_color) for colour in colours]
        dim = [Style(color=colour.blend(ground, _RAW).rich_color) for colour in colours]

        def cells(row: int) -> Iterator[Cell]:
            for x in range(width - gutter):
                for canvas, styles in ((smooth, bright), (raw, dim)):
                    text, ink = canvas.cell(x, row)
                    if ink is not None:
                        yield text, styles[ink]
                        break
                else:
                    yield ("┈" if row in ticks else " "), faint

        strips = []
        for row in range(height):
            label = f"{ticks.get(row, ''):>{gutter - 1}}" if gutter else ""
            edge = ("┤" if row in ticks else "│") if gutter else ""
            strips.append(Strip([Segment(label, muted), Segment(edge, faint), *_merge(cells(row))]))
        if x_axis:
            strips.append(Strip([Segment(" " * gutter + self._steps_line(width - gutter), muted)]))
        return strips

    def _span(self) -> tuple[float, float]:
        """First and last step over all curves."""
        ends = [(curve.steps[0], curve.steps[-1]) for curve in self._curves.values() if curve.steps]
        return min((first for first, _ in ends), default=0.0), max((last for _, last in ends), default=0.0)

    def _canvases(self, values: Range, width: int, height: int) -> tuple[Canvas, Canvas]:
        """The raw and the smoothed curves; the first curve is drawn last, on top."""
        raw, smooth = Canvas(width, height), Canvas(width, height)
        start, stop = self._span()

        def row(value: float) -> int:
            return round((1 - values.share(value)) * (raw.rows - 1))

        for ink, curve in reversed(list(enumerate(self._curves.values()))):
            for canvas, series in ((raw, curve.raw), (smooth, curve.smooth)):
                if self.panel.planned:
                    canvas, series = smooth, curve.raw
                elif curve.weight == 0 and canvas is raw:
                    continue  # without smoothing both are the same
                drawn = positive(series) if values.log else series
                canvas.curve(bucket(curve.steps, drawn, start, stop, width * DOTS_X), row, ink)
        return raw, smooth

    @staticmethod
    def _tick_rows(values: Range, height: int) -> dict[int, str]:
        """Labels by the row of cells they stand in, never two in neighbouring rows."""
        rows: dict[int, str] = {}
        for value, label in values.ticks((height + 1) // 2):
            row = min(height - 1, int((1 - values.share(value)) * height))
            if row not in rows and row - 1 not in rows and row + 1 not in rows:
                rows[row] = label
        return rows

    def _steps_line(self, width: int) -> str:
        """The labels below the plot: the last step at its end, round ones under their columns, kept apart."""
        start, stop = self._span()
        ticks = linear_ticks(start, stop, max(1, width // 9))
        line = f"{f'step {stop:,.0f}':>{width}}"[-width:]
        for tick, label in zip(ticks, linear_labels(ticks), strict=True):
            column = round((tick - start) / max(stop - start, 1e-9) * (width - 1))
            left = max(column - len(label) // 2, 0)
            right = left + len(label)
            if right <= width and not line[max(left - 1, 0) : right + 1].strip():
                line = line[:left] + label + line[right:]
        return line


def _merge(cells: Iterable[Cell]) -> Iterator[Segment]:
    """Neighbouring cells of one style as one segment."""
    for style, run in groupby(cells, key=lambda cell: cell[1]):
        yield Segment("".join(text for text, _ in run), style)


def legend_lines(entries: list[tuple[str, str]], width: int, most: int) -> list[list[tuple[int, str, str]]]:
    """At most `most` lines of (index, name, value); where they do not suffice, the names are cut short."""
    longest = max(len(name) for name, _ in entries)
    lines: list[list[tuple[int, str, str]]] = [[]]
    for length in range(longest, 2, -1):
        lines, used = [[]], 0
        for index, (name, value) in enumerate(entries):
            name = name if len(name) <= length else name[: length - 1] + "…"
            size = len(name) + len(value) + 3
            if used and used + size - 2 > width:
                lines.append([])
                used = 0
            lines[-1].append((index, name, value))
            used += size
        if len(lines) <= most:
            return lines
    return lines[:most]
