"""What the screens are made of. A widget draws what it is given; it reads no file."""

import zlib

from rich.text import Text
from textual.color import Color
from textual.events import Resize
from textual.strip import Strip
from textual.widget import Widget

# Blue, orange, green, pink, yellow, red: told apart with any colour vision (after Okabe and Ito).
PALETTE = tuple(map(Color.parse, ("#56b4e9", "#e69f00", "#3fbf8f", "#cc79a7", "#d7c84a", "#e0633a")))
_BLACK = Color(0, 0, 0)
_ON_LIGHT = 0.4  # how far colours are darkened on a light theme


def inks(widget: Widget) -> tuple[Color, ...]:
    """The palette, legible on the theme's ground."""
    if widget.app.current_theme.dark:
        return PALETTE
    return tuple(colour.blend(_BLACK, _ON_LIGHT) for colour in PALETTE)


def to_the_right(cell: Text, width: int) -> Text:
    """The cell of a table, aligned: DataTable itself does not look at how a text is justified."""
    return Text(" " * (width - len(cell))) + cell


class Colours:
    """A colour of the palette for every run, the same as long as the monitor is open.

    The name decides; one whose colour is taken gets the next free one, so that few runs never share theirs.
    """

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The index of its colour."""
        if name not in self._given:
            wanted = zlib.crc32(name.encode()) % len(PALETTE)
            uses = [list(self._given.values()).count(index) for index in range(len(PALETTE))]
            order = [(wanted + shift) % len(PALETTE) for shift in range(len(PALETTE))]
            self._given[name] = min(order, key=lambda index: uses[index])
        return self._given[name]


class LineWidget(Widget):
    """A widget that draws all its lines at once, and again only when something changed."""

    _lines: list[Strip] | None = None

    def draw(self) -> list[Strip]:
        """The lines from the top; what is missing stays blank."""
        raise NotImplementedError

    def redraw(self) -> None:
        self._lines = None
        self.refresh()

    def on_resize(self, _: Resize) -> None:
        self.redraw()

    def notify_style_update(self) -> None:  # another theme: other colours
        super().notify_style_update()
        self._lines = None

    def render_line(self, y: int) -> Strip:
        width, height = self.content_size
        if self._lines is None:
            lines, style = (self.draw() if width > 0 and height > 0 else []), self.rich_style
            self._lines = [line.adjust_cell_length(width).apply_style(style) for line in lines]
        return self._lines[y] if y < len(self._lines) else Strip.blank(width, self.rich_style)
