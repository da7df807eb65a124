"""A canvas of braille characters: 2 x 4 dots in every terminal cell."""

from collections.abc import Callable

from di4c_cli.tui.series import Bucket

DOTS_X, DOTS_Y = 2, 4
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # [x][y] within a cell
_FIRST = 0x2800  # the character without any dot
_DASHES = ("█", "██  ", "█ ", "█   ", "███ ", "██ █    ", "█  █    ", "██████  ")
"""Patterns of lines where there are no colours, the plainest first: which columns of dots are drawn."""


class Canvas:
    """`width` x `height` cells. Every cell has its dots and one ink, as a terminal cell has one colour."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.columns, self.rows = width * DOTS_X, height * DOTS_Y
        self._mask = [0] * (width * height)
        self._ink: list[int | None] = [None] * (width * height)

    def dot(self, x: int, y: int, ink: int) -> None:
        """Set the dot in column x, row y (from the top); outside the canvas nothing happens."""
        self.vertical(x, y, y, ink)

    def vertical(self, x: int, y_0: int, y_1: int, ink: int) -> None:
        if not 0 <= x < self.columns:
            return
        top, bottom = (y_0, y_1) if y_0 <= y_1 else (y_1, y_0)
        column, bits = x // DOTS_X, _BITS[x % DOTS_X]
        for y in range(max(top, 0), min(bottom + 1, self.rows)):
            cell = y // DOTS_Y * self.width + column
            self._mask[cell] |= bits[y % DOTS_Y]
            self._ink[cell] = ink

    def line(self, x_0: int, y_0: int, x_1: int, y_1: int, ink: int, dash: int = 0) -> None:
        """From one dot to another further right, without holes: each column holds its share of the rise."""
        pattern = _DASHES[dash % len(_DASHES)]
        span = max(x_1 - x_0, 1)
        previous = y_0
        for x in range(x_0, x_1 + 1):
            y = y_0 + round((y_1 - y_0) * (x - x_0) / span)
            step = 0 if y == previous else (1 if y > previous else -1)
            if pattern[x % len(pattern)] != " ":
                self.vertical(x, previous + step, y, ink)
            previous = y

    def curve(
        self, buckets: list[Bucket | None], row: Callable[[float], int], ink: int, dash: int = 0
    ) -> None:
        """Draw a bucketed curve, broken at its gaps; `row` tells the dot row of a value."""
        pattern = _DASHES[dash % len(_DASHES)]
        before: tuple[int, int] | None = None
        for x, item in enumerate(buckets):
            if item is None:
                continue
            top = bottom = first = last = row(item.high)
            if item.low != item.high:
                bottom, first, last = row(item.low), row(item.first), row(item.last)
            if before is not None and not item.gap_before:
                if x - before[0] > 1:
                    self.line(*before, x, first, ink, dash)
                elif first != before[1]:  # the rise from the neighbour belongs to this column
                    beside = before[1] + (1 if first > before[1] else -1)
                    top, bottom = min(top, beside), max(bottom, beside)
            if pattern[x % len(pattern)] != " ":
                self.vertical(x, top, bottom, ink)
            before = (x, last)

    def cell(self, x: int, y: int) -> tuple[str, int | None]:
        """The character of a cell and its ink; a cell without dots is a space."""
        mask = self._mask[y * self.width + x]
        return (chr(_FIRST + mask), self._ink[y * self.width + x]) if mask else (" ", None)


def dash_sample(dash: int, width: int) -> str:
    """A pattern of lines as it looks, `width` cells of it."""
    canvas = Canvas(width, 1)
    canvas.line(0, 1, canvas.columns - 1, 1, 0, dash)
    return "".join(canvas.cell(x, 0)[0] for x in range(width))
