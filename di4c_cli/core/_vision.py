"""The only way to torchvision, and picture files.

A CPU build of torch beside the CUDA build of torchvision (what plain `pip install torchvision` gives) makes
`import torchvision` fail: its compiled operators cannot load, and two of them are referred to on import.
Declaring those two without kernels is enough for all that is used here; compiled image I/O and detection
operators stay out of reach, so images go through Pillow.
"""

import importlib
import math
import os
import sys
from pathlib import Path
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_stubs: torch.library.Library | None = None  # the declarations last as long as this object


def import_torchvision() -> ModuleType:
    """torchvision, with its two missing operators declared where they cannot be loaded."""
    global _stubs
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _stubs is not None or "operator torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    # Only after a failure: beside operators that did load, the same declarations would collide.
    _stubs = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        _stubs.define(schema)
    return importlib.import_module("torchvision")


def has_compiled_operators() -> bool:
    """Whether torchvision's own C++ operators are there (False: declared only)."""
    import_torchvision()
    return _stubs is None


def save_grid(
    images: Float[Tensor, "N C H W"],
    path: Path,
    *,
    columns: int | None = None,
    min_tile: int = 32,
    padding: int = 2,
) -> None:
    """One PNG of all images (values in [0, 1], C = 1 or 3), near to a square unless `columns` is told.

    Small images are enlarged by a whole factor, without smoothing, to at least `min_tile` pixels. The file
    appears whole or not at all, and the same images give the same bytes.
    """
    factor = max(1, math.ceil(min_tile / min(images.shape[-2:])))
    tiles = images.detach().float().cpu().clamp(0, 1)
    tiles = tiles.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    columns = columns or math.ceil(math.sqrt(len(images)))
    save_image(tiled(tiles, min(columns, len(tiles)), padding), path)


def tiled(
    images: Float[Tensor, "N C H W"], columns: int, padding: int, between: float = 0.5
) -> Float[Tensor, "C height width"]:
    """The images row by row, with `padding` pixels of value `between` around each.

    What torchvision's make_grid does, whose import takes longer than most sampling runs.
    """
    N, C, H, W = images.shape
    down, right = H + padding, W + padding
    rows = math.ceil(N / columns)
    canvas = images.new_full((C, rows * down + padding, columns * right + padding), between)
    for number, image in enumerate(images):
        y, x = padding + number // columns * down, padding + number % columns * right
        canvas[:, y : y + H, x : x + W] = image
    return canvas


def save_image(image: Float[Tensor, "C H W"], path: Path) -> None:
    """One image (values in [0, 1]) as PNG, grey for C = 1; written whole or not at all."""
    from PIL import Image

    levels = (image.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    array = levels[0].numpy() if len(levels) == 1 else levels.permute(1, 2, 0).contiguous().numpy()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(array).save(temporary, format="PNG")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
