"""The newest previews in real pixels, where the terminal can show them (pixels.py)."""

from itertools import groupby

from PIL import Image
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from di4c_cli.tui.pictures import RGB, Preview, arrange
from di4c_cli.tui.pixels import cell_size, change_picture, picture_widget, whole_cells
from di4c_cli.tui.widgets import inks

_GAP = 2  # columns between the roles, as in the stylesheet
_SETTLED = 0.1  # seconds after the last change of size: every picture goes over the wire anew
_LEAST = 3  # rows of cells that a picture may have without scrolling
_ROLE_INKS = {"teacher": 1, "student": 0}


class PictureCell(Vertical):
    """What one role makes with one number of sampling steps: a title, and below it the picture."""

    DEFAULT_CSS = "PictureCell { height: auto; margin-right: 2; } PictureCell Static { height: 1; }"

    def __init__(self, preview: Preview) -> None:
        super().__init__()
        self.preview = preview
        self.picture: Widget | None = None
        self._wanted: tuple[Image.Image | None, str] | None = None
        self._note = Static("not readable yet", markup=False)
        self._note.display = False

    def compose(self) -> ComposeResult:
        steps = f" · {self.preview.steps} step{'s' if self.preview.steps != 1 else ''}"
        colour = inks(self)[_ROLE_INKS.get(self.preview.role, 2)]
        yield Static(Text(self.preview.role, style=f"bold {colour.hex}").append(steps, "not bold default"))
        yield self._note

    def put(self, image: Image.Image | None, protocol: str) -> None:
        """Show an image, or where there is none that it is not readable."""
        self._wanted = (image, protocol)
        if self.is_mounted:
            self._show_wanted()

    def on_mount(self) -> None:
        self._show_wanted()

    def _show_wanted(self) -> None:
        if self._wanted is None:
            return
        image, protocol = self._wanted
        self._note.display = image is None
        if self.picture is not None:
            self.picture.display = image is not None
        if image is not None and self.picture is not None:
            change_picture(self.picture, image)
        elif image is not None:
            self.picture = picture_widget(image, protocol)
            self.mount(self.picture)


class PixelWall(VerticalScroll):
    """Rows of pictures, one for each number of sampling steps, in a column for each role.

    It has no place for previews of text: SampleView shows those.
    """

    DEFAULT_CSS = """
    PixelWall {
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        & > Horizontal { height: auto; margin-bottom: 1; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="pixels")
        self._previews: tuple[Preview, ...] = ()
        self._protocol = ""
        self._cells: dict[tuple[int, str], PictureCell] = {}
        self._timer: Timer | None = None

    def show(self, previews: tuple[Preview, ...], protocol: str) -> None:
        """Show these previews by "kitty" or "sixel"; where only the pictures are new, only they change."""
        self._previews = tuple(preview for preview in previews if not preview.lines)
        places = [(preview.steps, preview.role) for preview in self._previews]
        if (places, protocol) != (list(self._cells), self._protocol):
            self._protocol = protocol
            self._cells = {
                place: PictureCell(preview) for place, preview in zip(places, self._previews, strict=True)
            }
            rows = groupby(self._cells.items(), key=lambda item: item[0][0])
            self.remove_children()
            self.mount_all(Horizontal(*(cell for _, cell in row)) for _, row in rows)
        self._draw()

    def on_resize(self, _: Resize) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_SETTLED, self._draw)

    def _draw(self) -> None:
        """Bring every picture to the size that there is for it."""
        width, height = self.scrollable_content_region.size
        if not self._previews or width < 1 or height < 1:
            return
        roles = len({preview.role for preview in self._previews})
        rows = len({preview.steps for preview in self._previews})
        column = max(1, width // roles - _GAP)
        body = max(_LEAST, (height - 2 * rows) // rows)
        ground = self.background_colors[1]
        for cell, preview in zip(self._cells.values(), self._previews, strict=True):
            cell.styles.width = column
            image = _compose(preview, column, body, (ground.r, ground.g, ground.b))
            cell.put(image, self._protocol)


def _compose(preview: Preview, columns: int, rows: int, ground: RGB) -> Image.Image | None:
    """The tiles as one picture of at most `columns` x `rows` cells, or more rows where a tile needs them."""
    if not preview.tiles:
        return None
    cell_width, cell_height = cell_size()
    height = rows * cell_height
    if not preview.whole:
        height = max(height, preview.tiles[0].height)
    return whole_cells(arrange(preview, columns * cell_width, height, ground), ground)
