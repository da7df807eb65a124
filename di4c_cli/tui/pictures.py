"""Previews of a run: picture grids taken back to their tiles, and lines of text.

A grid is an image of tiles, each enlarged `scale` times, with padding between and around them; `grid.json`
beside it says so. At its own resolution a tile costs one terminal column per pixel; shrunken, it would not be
readable.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

_NAME = re.compile(r"([a-z]+)-(\d+)\.(png|txt)")
_MAX_TEXT = 64 * 1024  # bytes of a text preview that are read
_MAX_TILES = 256
RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Preview:
    """What `role` makes with `steps` sampling steps: RGB tiles, or lines of text; neither: unreadable (yet).

    `whole`: the single tile is a whole picture whose grid is not known, so it may be shrunk.
    """

    role: str
    steps: int
    tiles: tuple[Image.Image, ...] = ()
    lines: tuple[str, ...] = ()
    whole: bool = False


def preview_files(folder: Path) -> dict[tuple[int, str], Path]:
    """The previews in a `samples/step-N` folder by (sampling steps, role): teacher first, then student."""
    found = {}
    try:
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                found[int(match[2]), match[1]] = path
    except OSError:
        return {}
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != "teacher", item[0][1])))


def read_previews(folder: Path) -> tuple[Preview, ...]:
    """All previews of a folder. One that is being written right now comes empty, and whole the next time."""
    layout = _read_layout(folder / "grid.json")
    return tuple(_read(path, role, steps, layout) for (steps, role), path in preview_files(folder).items())


def _read_layout(path: Path) -> dict[str, Any]:
    try:
        layout = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return layout if isinstance(layout, dict) else {}


def _read(path: Path, role: str, steps: int, layout: dict[str, Any]) -> Preview:
    if path.suffix == ".txt":
        return Preview(role, steps, lines=_read_lines(path))
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except Exception:  # Pillow lets through whatever its decoders raise at half a file
        return Preview(role, steps)
    tiles = cut(picture, layout)
    return Preview(role, steps, tiles=tiles) if tiles else Preview(role, steps, tiles=(picture,), whole=True)


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_TEXT).decode("utf-8", errors="replace")
    except OSError:
        return ()
    # Control characters in a sample must not reach the terminal.
    return tuple("".join(c if c.isprintable() else "·" for c in line) for line in text.split("\n") if line)


def cut(picture: Image.Image, layout: dict[str, Any]) -> tuple[Image.Image, ...]:
    """The tiles of a grid at their own resolution; none when `layout` does not describe this picture.

    The padding follows from the size of the picture, whatever unit the layout gives it in.
    """
    try:
        height, width = (int(side) for side in layout["tile"])
        scale, num = int(layout["scale"]), int(layout["num"])
        columns = min(int(layout["columns"]), num)
        rows = -(-num // columns)
        pad, rest = divmod(picture.width - columns * width * scale, columns + 1)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return ()
    fits = pad >= 0 and rest == 0 and picture.height == rows * height * scale + (rows + 1) * pad
    if not fits or min(height, width, scale, num) < 1:
        return ()
    tiles = []
    for index in range(min(num, _MAX_TILES)):
        x = pad + index % columns * (width * scale + pad)
        y = pad + index // columns * (height * scale + pad)
        box = (x, y, x + width * scale, y + height * scale)
        tiles.append(picture.resize((width, height), Image.Resampling.NEAREST, box=box))
    return tuple(tiles)


def arrange(preview: Preview, width: int, height: int, gap: RGB) -> Image.Image:
    """As many tiles as fit `width` x `height` pixels, on a canvas of colour `gap`.

    Tiles are enlarged by a whole number where many fit, and never shrunk; only one that is by itself wider or
    higher than the canvas is (or a whole picture).
    """
    tiles = [_within(tile, width, height) for tile in preview.tiles]
    if not tiles or min(width, height) < 1:
        return Image.new("RGB", (max(width, 1), max(height, 1)), gap)
    tile_w, tile_h = tiles[0].size
    zoom = _zoom(len(tiles), tile_w, tile_h, width, height)
    tile_w, tile_h = tile_w * zoom, tile_h * zoom
    columns = min(len(tiles), max(1, (width + 1) // (tile_w + 1)))
    rows = min(-(-len(tiles) // columns), max(1, (height + 1) // (tile_h + 1)))
    canvas = Image.new("RGB", (columns * (tile_w + 1) - 1, rows * (tile_h + 1) - 1), gap)
    for index, tile in enumerate(tiles[: columns * rows]):
        enlarged = tile.resize((tile_w, tile_h), Image.Resampling.NEAREST)
        canvas.paste(enlarged, (index % columns * (tile_w + 1), index // columns * (tile_h + 1)))
    return canvas


def _within(tile: Image.Image, width: int, height: int) -> Image.Image:
    ratio = min(width / tile.width, height / tile.height, 1.0)
    if ratio == 1.0:
        return tile
    size = (max(1, round(tile.width * ratio)), max(1, round(tile.height * ratio)))
    return tile.resize(size, Image.Resampling.BOX)


def _zoom(num: int, tile_w: int, tile_h: int, width: int, height: int, wanted: int = 6) -> int:
    """The largest enlargement at which `wanted` tiles (or all, if there are fewer) still fit; at least 1."""
    zoom = 1
    while True:
        fit = ((width + 1) // (tile_w * (zoom + 1) + 1)) * ((height + 1) // (tile_h * (zoom + 1) + 1))
        if fit < min(num, wanted):
            return zoom
        zoom += 1


def half_blocks(canvas: Image.Image, ground: RGB) -> Iterable[list[tuple[RGB, RGB]]]:
    """Rows of (upper, lower) pixel colours, one pair per terminal cell; `ground` fills a last half row."""
    pixels = canvas.load()
    for y in range(0, canvas.height, 2):
        lower = y + 1 < canvas.height
        yield [(pixels[x, y], pixels[x, y + 1] if lower else ground) for x in range(canvas.width)]
