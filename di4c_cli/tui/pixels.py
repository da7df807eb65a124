"""Pictures in real pixels: what this terminal can show, through the package textual-image (extra `images`).

The terminal is asked before the application starts; from then on the application reads all that it says.
"""

import importlib.util
import io
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image
from textual.app import ComposeResult
from textual.widget import Widget

from di4c_cli.tui.pictures import RGB

_PATIENCE = 1.0  # seconds in which a terminal has to answer
_KITTY_QUESTION = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
_CELL_QUESTION = "\x1b[16t"
_DEVICE_QUESTION = "\x1b[c"  # the last one: every terminal answers it, and answers come in order
_CLEAN = "\r\x1b[K"  # a terminal that took a question for text has written it into this line
_KITTY_ANSWER = re.compile(r"\x1b_Gi=31;OK\x1b\\")
_CELL_ANSWER = re.compile(r"\x1b\[6;(\d+);(\d+)t")
_DEVICE_ANSWER = re.compile(r"\x1b\[\?([\d;]*)c")
_COLOUR_DEFINITION = re.compile(r"(#\d+);2;\d+;\d+;\d+")
_SIXEL = "4"  # among the device attributes
_MOST_CELLS = 256  # columns or rows of one picture; textual-image cannot place more with kitty


def available() -> tuple[str, ...]:
    """ "kitty" or "sixel", whichever this terminal can show; nothing without the extra or a terminal.

    A terminal that claims both gets sixel: WezTerm and Konsole lack the placeholders by which textual-image
    puts kitty pictures in their place.
    """
    try:
        if importlib.util.find_spec("textual_image") is None or not _on_terminal():
            return ()
        answer = _ask(_questions())
        device = _DEVICE_ANSWER.search(answer)
        if device and _SIXEL in device[1].split(";"):
            found = "sixel"
        elif _KITTY_ANSWER.search(answer):
            found = "kitty"
        else:
            return ()
        _load(_cell_size(answer))
    except Exception:  # no termios here, a terminal in a strange state, half an installation: blocks will do
        return ()
    return (found,)


def picture_widget(image: Image.Image, protocol: str) -> Widget:
    """A widget that shows `image` (of whole cells, see `whole_cells`) by "kitty" or "sixel"."""
    widget = _kitty_class()() if protocol == "kitty" else _sixel_class()()
    change_picture(widget, image)
    return widget


def change_picture(widget: Any, image: Image.Image) -> None:
    """Let a picture widget show another image."""
    width, height = cell_size()
    if widget.image != image:
        widget.styles.width, widget.styles.height = image.width // width, image.height // height
        widget.image = image


def cell_size() -> tuple[int, int]:
    """Width and height of a terminal cell in pixels, as the picture widgets take them."""
    from textual_image._terminal import get_cell_size

    return tuple(get_cell_size())


def whole_cells(image: Image.Image, ground: RGB) -> Image.Image:
    """The image with `ground` to its right and below to fill its cells, so that nothing rescales it."""
    cell_width, cell_height = cell_size()
    columns = min(-(-image.width // cell_width), _MOST_CELLS)
    rows = min(-(-image.height // cell_height), _MOST_CELLS)
    canvas = Image.new("RGB", (columns * cell_width, rows * cell_height), ground)
    canvas.paste(image)
    return canvas


# -- the widgets of textual-image ------------------------------------------------------------


def _kitty_class() -> type[Any]:
    from textual_image.widget import TGPImage

    return TGPImage


@cache
def _sixel_class() -> type[Any]:
    """The sixel widget, with every colour also chosen where it is defined: xterm needs both."""
    from textual_image.widget import SixelImage
    from textual_image.widget.sixel import _ImageSixelImpl

    class Sixels(_ImageSixelImpl):
        def _image_to_sixels(self, *arguments: Any, **options: Any) -> str:
            sixels = super()._image_to_sixels(*arguments, **options)
            return _COLOUR_DEFINITION.sub(r"\g<0>\1", sixels)

    class SixelPicture(SixelImage, Renderable=SixelImage._Renderable):
        def compose(self) -> ComposeResult:
            yield Sixels(self.image)

    return SixelPicture


# -- asking the terminal ---------------------------------------------------------------------


def _on_terminal() -> bool:
    streams = (sys.__stdin__, sys.__stdout__)
    if not all(stream is not None and stream.isatty() for stream in streams):
        return False
    return os.environ.get("TERM") not in ("dumb", "linux") and not os.environ.get("NO_COLOR")


def _questions() -> str:
    """All that is worth asking this terminal."""
    # A multiplexer would make a window title of kitty's question, and pass no picture on.
    multiplexed = "TMUX" in os.environ or os.environ.get("TERM", "").startswith(("tmux", "screen"))
    # The placeholders carry the number of their picture in their colour, exactly.
    exact = os.environ.get("COLORTERM") in ("truecolor", "24bit")
    kitty = _KITTY_QUESTION if exact and not multiplexed else ""
    return kitty + _CELL_QUESTION + _DEVICE_QUESTION + _CLEAN


def _ask(questions: str) -> str:
    """What the terminal answers, read without echo; what is missing when the patience ends stays away."""
    import termios
    import tty

    source, target = sys.__stdin__.fileno(), sys.__stdout__.fileno()
    mode = termios.tcgetattr(source)
    answer = ""
    try:
        tty.setcbreak(source, termios.TCSANOW)
        os.write(target, questions.encode())
        end = time.monotonic() + _PATIENCE
        while not _DEVICE_ANSWER.search(answer):
            if not select.select([source], [], [], max(0.0, end - time.monotonic()))[0]:
                break
            if not (data := os.read(source, 1024)):
                break
            answer += data.decode("latin-1")
    finally:
        termios.tcsetattr(source, termios.TCSANOW, mode)
    return answer


def _cell_size(answer: str) -> tuple[int, int] | None:
    """Width and height of a cell in pixels, as the terminal says or else its driver knows."""
    if found := _CELL_ANSWER.search(answer):
        return int(found[2]), int(found[1])
    import fcntl
    import struct
    import termios

    size = fcntl.ioctl(sys.__stdout__.fileno(), termios.TIOCGWINSZ, bytes(8))
    rows, columns, width, height = struct.unpack("4H", size)
    return (width // columns, height // rows) if min(rows, columns, width, height) > 0 else None


def _load(cell: tuple[int, int] | None) -> None:
    """Import textual-image, and tell it what the terminal has said already."""
    told = ("TEXTUAL_CELL_WIDTH", "TEXTUAL_CELL_HEIGHT")
    if cell is not None:
        os.environ.update(zip(told, map(str, cell), strict=True))
    try:
        with _undisturbed():
            import textual_image.widget  # noqa: F401
    finally:
        for name in told:
            os.environ.pop(name, None)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep textual-image from asking the terminal itself, which loses answers that take a tenth of a second,
    and from loading numpy, which takes longer than it would save.
    """
    terminal, sys.__stdout__ = sys.__stdout__, io.StringIO()
    hidden = sys.modules.setdefault("numpy", None) is None
    try:
        yield
    finally:
        sys.__stdout__ = terminal
        if hidden:
            del sys.modules["numpy"]
