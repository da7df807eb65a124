"""A canvas of braille characters: 2 x 4 dots in every terminal cell."""

from collections.abc import Callable

from di4c_cli.tui.series import Bucket

DOTS_X, DOTS_Y = 2, 4
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [y][x] within a cell
BLANK = 0


class Canvas:
    """`width` x `height` cells. Every cell has its dots and one ink, as a terminal cell has one colour.

    `dashed`: where there are no colours, inks are told apart by their pattern.
    """

    def __init__(self, width: int, height: int, dashed: bool = False) -> None:
        self.width, self.height, self.dashed = width, height, dashed
        self.columns, self.rows = width * DOTS_X, height * DOTS_Y
        self._mask = [BLANK] * (width * height)
        self._ink: list[int | None] = [None] * (width * height)

    def dot(self, x: int, y: int, ink: int) -> None:
        """Set the dot in column x, row y (from the top); outside the canvas nothing happens."""
        if self.dashed and ink and x // 2 % (ink + 1) == ink:  # the first is solid, the others have gaps
            return
        if 0 <= x < self.columns and 0 <= y < self.rows:
            cell = (y // DOTS_Y) * self.width + x // DOTS_X
            self._mask[cell] |= _BITS[y % DOTS_Y][x % DOTS_X]
            self._ink[cell] = ink

    def vertical(self, x: int, y_0: int, y_1: int, ink: int) -> None:
        for y in range(min(y_0, y_1), max(y_0, y_1) + 1):
            self.dot(x, y, ink)

    def line(self, x_0: int, y_0: int, x_1: int, y_1: int, ink: int) -> None:
        """From one dot to another further right, without holes: each column holds its share of the rise."""
        span = max(x_1 - x_0, 1)
        previous = y_0
        for x in range(x_0, x_1 + 1):
            y = y_0 + round((y_1 - y_0) * (x - x_0) / span)
            step = 0 if y == previous else (1 if y > previous else -1)
            self.vertical(x, previous + step, y, ink)
            previous = y

    def curve(self, buckets: list[Bucket | None], row: Callable[[float], int], ink: int) -> None:
        """Draw a bucketed curve, broken at its gaps; `row` tells the dot row of a value."""
        previous: tuple[int, Bucket] | None = None
        for x, item in enumerate(buckets):
            if item is None:
                continue
            self.vertical(x, row(item.low), row(item.high), ink)
            if previous is not None and not item.gap_before:
                from_x, old = previous
                self.line(from_x, row(old.last), x, row(item.first), ink)
            previous = (x, item)

    def cell(self, x: int, y: int) -> tuple[str, int | None]:
        """The character of a cell and its ink; a cell without dots is a space."""
        mask = self._mask[y * self.width + x]
        return (chr(0x2800 + mask), self._ink[y * self.width + x]) if mask else (" ", None)
