"""Quality against sampling steps: a line for each model, the floor of real data dashed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from di4c_cli.report import ARROWS, LABELS
from di4c_cli.tui.axis import Range, figure, fit
from di4c_cli.tui.braille import DOTS_X, DOTS_Y, Canvas
from di4c_cli.tui.widgets import inks
from di4c_cli.tui.widgets.plot import Cell, Label, Plot, legend_lines

_DECADE = 10.0  # figures that span more than this factor get a logarithmic axis
_MARGIN = 0.06  # share of the range above and below the figures
MARKS = "●■▲◆▼✚"


@dataclass(frozen=True)
class FrontierLine:
    """A model's figures: (sampling steps, mean), ascending. `mark` and `ink`: indices."""

    name: str
    points: tuple[tuple[int, float], ...]
    ink: int
    mark: int


class FrontierPlot(Plot):
    """One metric over the number of sampling steps, which double from tick to tick."""

    def __init__(self, id: str = "frontier") -> None:
        super().__init__(id=id)
        self.title = ""
        self._lines_shown: tuple[FrontierLine, ...] = ()
        self._floor: float | None = None
        self._range: Range | None = None

    def show(self, metric: str, direction: str, lines: Sequence[FrontierLine], floor: float | None) -> None:
        self._lines_shown, self._floor = tuple(line for line in lines if line.points), floor
        values = [value for line in self._lines_shown for _, value in line.points]
        every = values if floor is None else [*values, floor]
        log = bool(every) and min(every) > 0 and max(every) > _DECADE * min(every)
        self._range = _widened(fit([(every, every)], log))
        self.title = LABELS.get(metric, metric) + ARROWS.get(direction, "")
        self.border_title = self.title
        self.border_subtitle = "log y" if log else ""
        self.redraw()

    def draw(self) -> list[Strip]:
        width, height = self.content_size
        if self._range is None:
            return [Strip([Segment("no evaluation yet: di4c eval", Style(italic=True))])]
        legend = self._legend(width, height)
        return legend + self.framed(self._range, width, height - len(legend), self._field, self._labels)

    def _legend(self, width: int, height: int) -> list[Strip]:
        palette = inks(self)
        entries = [(f"{MARKS[line.mark % len(MARKS)]} {line.name}", "") for line in self._lines_shown]
        styles = [
            Style(color=palette[line.ink % len(palette)].rich_color, bold=True) for line in self._lines_shown
        ]
        if self._floor is not None:
            entries.append(("┄ real data", figure(self._floor)))
            styles.append(Style(color=self.colors[3].rich_color))
        return [
            Strip([Segment(f"{name} {value}  ", styles[index]) for index, name, value in line]).crop(0, width)
            for line in legend_lines(entries, width, 2 if height >= 9 else 1)
        ]

    def _share(self, steps: int) -> float:
        """Where a number of steps stands along the axis."""
        low, high = (math.log2(end) for end in self._ends())
        return (math.log2(max(steps, 1)) - low) / (high - low) if high > low else 0.5

    def _ends(self) -> tuple[int, int]:
        steps = [max(k, 1) for line in self._lines_shown for k, _ in line.points]
        return (min(steps), max(steps)) if steps else (1, 1)

    def _field(self, columns: int, rows: int) -> Callable[[int, int], Cell | None]:
        values, palette = self._range or Range(0, 1), inks(self)
        canvas = Canvas(columns, rows)
        marks: dict[tuple[int, int], Cell] = {}
        for line in reversed(self._lines_shown):
            colour = palette[line.ink % len(palette)]
            dots = [
                (
                    round(self._share(k) * (canvas.columns - 1)),
                    round((1 - values.share(v)) * (canvas.rows - 1)),
                )
                for k, v in line.points
            ]
            for (x_0, y_0), (x_1, y_1) in zip(dots, dots[1:], strict=False):
                canvas.line(x_0, y_0, x_1, y_1, line.ink % len(palette))
            for x, y in dots:
                marks[x // DOTS_X, y // DOTS_Y] = (
                    MARKS[line.mark % len(MARKS)],
                    Style(color=colour.rich_color, bold=True),
                )
        floor = (
            None
            if self._floor is None
            else round((1 - values.share(self._floor)) * (canvas.rows - 1)) // DOTS_Y
        )
        return lambda x, y: marks.get((x, y)) or self._line_cell(canvas, palette, floor, x, y)

    def _line_cell(
        self, canvas: Canvas, palette: tuple[Color, ...], floor: int | None, x: int, y: int
    ) -> Cell | None:
        text, ink = canvas.cell(x, y)
        if ink is not None:
            return text, Style(color=palette[ink].rich_color)
        return ("┄", Style(color=self.colors[3].rich_color)) if y == floor else None

    def _labels(self, columns: int) -> Sequence[Label]:
        steps = sorted({k for line in self._lines_shown for k, _ in line.points})
        labels = [(self._share(k), str(k)) for k in steps]
        return [(share, f"K = {label}" if share == labels[-1][0] else label) for share, label in labels]


def _widened(values: Range | None) -> Range | None:
    """A little air above and below: marks must not stick to the frame."""
    if values is None:
        return None
    if values.log:
        factor = (values.high / values.low) ** _MARGIN
        return Range(values.low / factor, values.high * factor, True)
    margin = _MARGIN * (values.high - values.low)
    return Range(values.low - margin, values.high + margin)
