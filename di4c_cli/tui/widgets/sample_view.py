"""Previews: each role beside the other at every number of sampling steps."""

from itertools import groupby

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from di4c_cli.tui.pictures import RGB, Preview, arrange, half_blocks
from di4c_cli.tui.widgets import inks

_GAP = 2  # columns between the roles
_TEXT_ROWS = 3  # rows a text preview has at least
_ROLE_INKS = {"teacher": 1, "student": 0}


class SampleView(ScrollView, can_focus=True):
    """Rows of previews, one per number of sampling steps; scrolls when they do not fit at a readable size.

    `plain`: pictures as black and white blocks that also read without colours.
    """

    def __init__(self, plain: bool = False) -> None:
        super().__init__(id="sample-view")
        self.plain = plain
        self._previews: tuple[Preview, ...] = ()
        self._strips: list[Strip] | None = None
        self._drawn_for = Size()

    def show(self, previews: tuple[Preview, ...]) -> None:
        self._previews = previews
        self._layout_lines()

    def on_resize(self, _: Resize) -> None:
        self._layout_lines()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips = None

    def _layout_lines(self) -> None:
        self._strips = self._draw()
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._strips))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        if self._strips is None or self._drawn_for != self.scrollable_content_region.size:
            self._strips = self._draw()
            self.call_after_refresh(self._layout_lines)
        y += self.scroll_offset.y
        width = self.scrollable_content_region.width
        line = self._strips[y] if y < len(self._strips) else Strip.blank(width)
        return line.adjust_cell_length(width).apply_style(self.rich_style)

    # -- drawing -----------------------------------------------------------------------------

    def _draw(self) -> list[Strip]:
        self._drawn_for = self.scrollable_content_region.size
        width, height = self._drawn_for
        if not self._previews or width < 1 or height < 1:
            return []
        roles = list(dict.fromkeys(preview.role for preview in self._previews))
        rows = [list(group) for _, group in groupby(self._previews, key=lambda preview: preview.steps)]
        column = max(1, (width - _GAP * (len(roles) - 1)) // len(roles))
        body = max(1, (height - 2 * len(rows) + 1) // len(rows))
        strips: list[Strip] = []
        for row in rows:
            by_role = {preview.role: preview for preview in row}
            blocks = [self._block(by_role.get(role), column, body) for role in roles]
            for line in range(max(map(len, blocks))):
                parts = [block[line] if line < len(block) else Strip.blank(column) for block in blocks]
                strips.append(Strip.join(_between(parts)))
            strips.append(Strip.blank(width))
        return strips[:-1]

    def _block(self, preview: Preview | None, width: int, body: int) -> list[Strip]:
        """A title and the samples, all lines `width` cells wide; blank where a role has no preview."""
        if preview is None:
            return []
        colour = inks(self)[_ROLE_INKS.get(preview.role, 2)]
        steps = f" · {preview.steps} step{'s' if preview.steps != 1 else ''}"
        title = Strip([Segment(preview.role, Style(color=colour.rich_color, bold=True)), Segment(steps)])
        lines = self._picture(preview, width, body) if preview.tiles else _text(preview, width, body)
        return [line.adjust_cell_length(width) for line in (title, *lines)]

    def _picture(self, preview: Preview, width: int, body: int) -> list[Strip]:
        needed = 1 if preview.whole else -(-preview.tiles[0].height // 2)
        ground = self.background_colors[1]
        surface: RGB = (ground.r, ground.g, ground.b)
        canvas = arrange(preview, width, 2 * max(body, needed), surface)
        cells = _black_and_white if self.plain else _coloured
        return [Strip(cells(row)) for row in half_blocks(canvas, surface)]


def _between(parts: list[Strip]) -> list[Strip]:
    joined = [parts[0]]
    for part in parts[1:]:
        joined += [Strip.blank(_GAP), part]
    return joined


def _text(preview: Preview, width: int, body: int) -> list[Strip]:
    """One sample a paragraph, wrapped, as many as fit; dashes tell where each begins."""
    if not preview.lines:
        return [Strip([Segment("not readable yet", Style(italic=True))])]
    rows = max(body, _TEXT_ROWS)
    strips: list[Strip] = []
    for line in preview.lines:
        for number, piece in enumerate(chop_cells(line, max(1, width - 2))):
            mark = "- " if number == 0 else "  "
            strips.append(Strip([Segment(set_cell_size(mark + piece, min(width, cell_len(mark + piece))))]))
        if len(strips) >= rows:
            break
    return strips[:rows]


def _coloured(row: list[tuple[RGB, RGB]]) -> list[Segment]:
    segments = []
    for (upper, lower), run in groupby(row):
        style = Style(color=RichColor.from_rgb(*upper), bgcolor=RichColor.from_rgb(*lower))
        segments.append(Segment("▀" * len(list(run)), style))
    return segments


def _black_and_white(row: list[tuple[RGB, RGB]]) -> list[Segment]:
    def light(colour: RGB) -> bool:
        return sum(colour) >= 3 * 128

    return [Segment("".join(" ▄▀█"[2 * light(upper) + light(lower)] for upper, lower in row))]
