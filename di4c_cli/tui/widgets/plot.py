"""What all charts share: the frame of ticks and labels around a field of cells."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from di4c_cli.tui.axis import Range
from di4c_cli.tui.widgets import LineWidget

_FAINT = 0.8  # how far the grid fades into the background
_MUTED = 0.45  # the same for labels
_MIN_PLOT = 8  # cells of plot width below which the labels give way
Cell = tuple[str, Style]
Label = tuple[float, str]
"""Where along the x axis (0 to 1), and what stands there."""


class Plot(LineWidget, can_focus=True):
    """A chart: values to the left, positions below."""

    label_width = 0
    """Cells of the labels on the left, since the last drawing."""

    def framed(
        self,
        values: Range,
        width: int,
        height: int,
        field: Callable[[int, int], Callable[[int, int], Cell | None]],
        labels: Callable[[int], Sequence[Label]],
    ) -> list[Strip]:
        """The lines of a chart. `field(columns, rows)` gives what stands in each cell of the plot (None: the
        grid), `labels(columns)` what stands below; the last label stays, others give way to it.
        """
        ground, front = self.background_colors[1], self.colors[3]
        faint = Style(color=front.blend(ground, _FAINT).rich_color)
        muted = Style(color=front.blend(ground, _MUTED).rich_color)
        x_axis = height >= 4
        rows = height - x_axis
        ticks = _tick_rows(values, rows)
        gutter = max((len(label) for label in ticks.values()), default=0) + 1
        self.label_width = gutter = gutter if width - gutter >= _MIN_PLOT else 0
        columns = width - gutter
        at = field(columns, rows)

        def cells(row: int) -> Iterator[Cell]:
            blank = ("┈" if row in ticks else " ", faint)
            return (at(x, row) or blank for x in range(columns))

        strips = []
        for row in range(rows):
            label = f"{ticks.get(row, ''):>{gutter - 1}}" if gutter else ""
            edge = ("┤" if row in ticks else "│") if gutter else ""
            strips.append(Strip([Segment(label, muted), Segment(edge, faint), *_merge(cells(row))]))
        if x_axis:
            strips.append(Strip([Segment(" " * gutter + label_line(labels(columns), columns), muted)]))
        return strips


def _tick_rows(values: Range, height: int) -> dict[int, str]:
    """Labels by the row of cells they stand in, never two in neighbouring rows.

    Two at least, wherever there is room: a single one tells no scale.
    """
    fewest = (height + 1) // 2
    rows = _placed(values.ticks(fewest), values, height)
    for count in range(fewest + 1, 2 * height if height >= 3 else 0):
        if len(rows) >= 2:
            break
        rows = _placed(values.ticks(count), values, height)
    return rows


def _placed(ticks: Iterable[tuple[float, str]], values: Range, height: int) -> dict[int, str]:
    rows: dict[int, str] = {}
    for value, label in ticks:
        row = min(height - 1, int((1 - values.share(value)) * height))
        if row not in rows and row - 1 not in rows and row + 1 not in rows:
            rows[row] = label
    return rows


def label_line(labels: Sequence[Label], width: int) -> str:
    """Labels under their columns, kept apart; the last one has its place before all others."""
    line = " " * width
    for share, label in [*labels[-1:], *labels[:-1]]:
        left = min(max(round(share * (width - 1)) - len(label) // 2, 0), max(width - len(label), 0))
        right = left + len(label)
        if right <= width and not line[max(left - 1, 0) : right + 1].strip():
            line = line[:left] + label + line[right:]
    return line


def _merge(cells: Iterable[Cell]) -> Iterator[Segment]:
    """Neighbouring cells of one style as one segment."""
    for style, run in groupby(cells, key=lambda cell: cell[1]):
        yield Segment("".join(text for text, _ in run), style)


def legend_lines(
    entries: list[tuple[str, str]], width: int, most: int, lead: int = 0
) -> list[list[tuple[int, str, str]]]:
    """At most `most` lines of (index, name, value); where they do not suffice, the names are cut short, and
    then the last entries are left out. `lead`: cells before each name.
    """
    longest = max(len(name) for name, _ in entries)
    lines: list[list[tuple[int, str, str]]] = [[]]
    for length in range(longest, 0, -1):
        lines, used = [[]], 0
        for index, (name, value) in enumerate(entries):
            name = shortened(name, length)
            size = lead + len(name) + len(value) + 3
            if used and used + size - 2 > width:
                lines.append([])
                used = 0
            lines[-1].append((index, name, value))
            used += size
        if len(lines) <= most:
            return lines
    return lines[:most]


def shortened(name: str, length: int) -> str:
    """Cut in the middle: many names differ at their ends only."""
    if len(name) <= length:
        return name
    if length < 3:
        return name[:length].rstrip()
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"
