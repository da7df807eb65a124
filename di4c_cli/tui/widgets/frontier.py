"""Quality against sampling steps: a line for each model, the floor of real data dashed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from di4c_cli.figures import ARROWS, LABELS
from di4c_cli.tui.axis import Range, figure, fit
from di4c_cli.tui.braille import DOTS_X, DOTS_Y, Canvas
from di4c_cli.tui.widgets import inks
from di4c_cli.tui.widgets.plot import Cell, Label, Plot, legend_lines

_DECADE = 10.0  # figures that span more than this factor get a logarithmic axis
_MARGIN = 0.06  # share of the range above and below the figures
MARKS = "●■▲◆▼✚○□△◇▽✖"


@dataclass(frozen=True)
class FrontierLine:
    """A model's figures: (sampling steps, mean), ascending. `mark`, `ink`: indices; no ink: that of text."""

    name: str
    points: tuple[tuple[int, float], ...]
    ink: int | None
    mark: int


class FrontierPlot(Plot):
    """One metric over the number of sampling steps, which double from tick to tick."""

    def __init__(self, id: str = "frontier", dashed: bool = False) -> None:
        super().__init__(id=id)
        self.title, self.dashed = "", dashed
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

    def _colours(self) -> list[Color]:
        palette, front = inks(self), self.colors[3]
        return [front if line.ink is None else palette[line.ink % len(palette)] for line in self._lines_shown]

    def _legend(self, width: int, height: int) -> list[Strip]:
        entries = [(line.name, "") for line in self._lines_shown]
        marks = [_mark(line) for line in self._lines_shown]
        styles = [Style(color=colour.rich_color, bold=True) for colour in self._colours()]
        if self._floor is not None:
            entries.append(("real data", figure(self._floor)))
            marks.append("┄")
            styles.append(Style(color=self.colors[3].rich_color))
        most = 2 if height >= 7 else 1
        return [
            Strip(
                [Segment(f"{marks[index]} {name} {value}  ", styles[index]) for index, name, value in line]
            ).crop(0, width)
            for line in legend_lines(entries, width, most, lead=2)
        ]

    def _share(self, steps: int) -> float:
        """Where a number of steps stands along the axis."""
        low, high = (math.log2(end) for end in self._ends())
        return (math.log2(max(steps, 1)) - low) / (high - low) if high > low else 0.5

    def _ends(self) -> tuple[int, int]:
        steps = [max(k, 1) for line in self._lines_shown for k, _ in line.points]
        return (min(steps), max(steps)) if steps else (1, 1)

    def _field(self, columns: int, rows: int) -> Callable[[int, int], Cell | None]:
        values, colours = self._range or Range(0, 1), self._colours()
        canvas = Canvas(columns, rows)
        row = values.rows(canvas.rows)
        marks: dict[tuple[int, int], Cell] = {}
        # What several runs have in common lies below; of the others the first is on top.
        order = sorted(enumerate(self._lines_shown), key=lambda pair: (pair[1].ink is not None, -pair[0]))
        for ink, line in order:
            dots = [(round(self._share(k) * (canvas.columns - 1)), row(value)) for k, value in line.points]
            for start, end in pairwise(dots):
                canvas.line(*start, *end, ink, ink if self.dashed else 0)
            style = Style(color=colours[ink].rich_color, bold=True)
            marks |= {(x // DOTS_X, y // DOTS_Y): (_mark(line), style) for x, y in dots}
        floor = None if self._floor is None else row(self._floor) // DOTS_Y
        front = Style(color=self.colors[3].rich_color)

        def cell(x: int, y: int) -> Cell | None:
            if (x, y) in marks:
                return marks[x, y]
            text, ink = canvas.cell(x, y)
            if ink is not None:
                return text, Style(color=colours[ink].rich_color)
            return ("┄", front) if y == floor else None

        return cell

    def _labels(self, columns: int) -> Sequence[Label]:
        steps = sorted({k for line in self._lines_shown for k, _ in line.points})
        labels = [(self._share(k), str(k)) for k in steps]
        return [(share, f"K = {label}" if share == labels[-1][0] else label) for share, label in labels]


def _mark(line: FrontierLine) -> str:
    return MARKS[line.mark % len(MARKS)]


def _widened(values: Range | None) -> Range | None:
    """A little air above and below: marks must not stick to the frame."""
    if values is None:
        return None
    if values.log:
        factor = (values.high / values.low) ** _MARGIN
        return Range(values.low / factor, values.high * factor, True)
    margin = _MARGIN * (values.high - values.low)
    return Range(values.low - margin, values.high + margin)
