"""MNIST, cropped to 24x24 and reduced by block means: $DI4C_DATA/mnist first, else torchvision's download."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from di4c_cli.core import datasets
from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.codecs import Codec, ImageCodec
from di4c_cli.core.codecs.pixels import PixelCodec
from di4c_cli.core.datasets import MOST_IMAGES, Dataset, TensorSplit, data_root, spread_index
from di4c_cli.core.datasets._codec import expect_images
from di4c_cli.core.datasets._download import download_folder, downloading
from di4c_cli.core.datasets._images import block_means
from di4c_cli.errors import DataError, RecipeError

SIDE, CROP = 28, 24
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
TIMEOUT = 20.0  # seconds without a byte, after which a mirror is given up
HINT = "put the four .gz files of MNIST into $DI4C_DATA/mnist, or remove the damaged ones"


class Config(datasets.ImageConfig):
    """60,000 images to train on and 10,000 held out, with labels; height and width must divide 24."""

    threshold: float = Field(0.4, gt=0, lt=1)
    """With pixels of 2 levels, a block is white where its mean is above this."""

    def build(self, codec: Codec) -> Dataset:
        image_codec = expect_images(codec, "pixels", "mnist")
        _check(image_codec.image_shape)
        folder = _folder()
        return Dataset(
            train=self._split(folder, "train", 60_000, image_codec),
            test=self._split(folder, "t10k", 10_000, image_codec),
        )

    def images(self, image_shape: tuple[int, int, int]) -> Float[Tensor, "N C H W"]:
        _check(image_shape)
        grey = _grey(_folder(), "train", 60_000)
        return _reduced(grey[spread_index(len(grey), MOST_IMAGES)], image_shape[1:])

    def _split(self, folder: Path, name: str, num: int, codec: ImageCodec) -> TensorSplit:
        grey = _grey(folder, name, num)
        label = _read(folder / f"{name}-labels-idx1-ubyte.gz", LABELS_MAGIC, (num,))
        return TensorSplit(self._tokens(grey, codec), label.long())

    def _tokens(self, grey: UInt8[Tensor, "N 28 28"], codec: ImageCodec) -> Int[Tensor, "N D"]:
        images = _reduced(grey, codec.image_shape[1:])
        binary = isinstance(codec, PixelCodec) and codec.levels == 2
        return (images > self.threshold).long().flatten(1) if binary else codec.encode(images)


def _check(image_shape: tuple[int, int, int]) -> None:
    channels, height, width = image_shape
    if channels != 1 or CROP % height or CROP % width:
        raise RecipeError(
            f"codec: MNIST images are grey, cropped to {CROP}x{CROP} and reduced by whole factors",
            "set channels = 1 and a height and width that divide 24, such as 12",
        )


def _grey(folder: Path, name: str, num: int) -> UInt8[Tensor, "N 28 28"]:
    return _read(folder / f"{name}-images-idx3-ubyte.gz", IMAGES_MAGIC, (num, SIDE, SIDE))


def _reduced(grey: UInt8[Tensor, "N 28 28"], size: tuple[int, ...]) -> Float[Tensor, "N 1 H W"]:
    """The middle 24x24 pixels in [0, 1], averaged over blocks."""
    edge = (SIDE - CROP) // 2
    return block_means(grey[:, None, edge : edge + CROP, edge : edge + CROP], size)


def _folder() -> Path:
    """Where the four files lie, after a download if need be."""
    root = data_root()
    if root is not None and (root / "mnist").is_dir():
        return root / "mnist"
    cache = download_folder()
    files = cache / "MNIST" / "raw"
    if not (files / "t10k-labels-idx1-ubyte.gz").is_file():
        with downloading("MNIST", cache, TIMEOUT, HINT):
            import_torchvision().datasets.MNIST(str(cache), download=True)
    return files


def _read(path: Path, magic: int, shape: tuple[int, ...]) -> UInt8[Tensor, "..."]:
    """A gzipped idx file of unsigned bytes.

    Raises:
        DataError: it is missing, damaged, or not of that kind and shape.
    """
    header = np.array([magic, *shape], dtype=">u4").tobytes()
    size = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            raw = file.read(size + 1)  # and no more: a small file can unpack to any size
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}", HINT) from error
    if not raw.startswith(header) or len(raw) != size:
        raise DataError(f"{path}: not the MNIST file it should be", HINT)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)[len(header) :].view(shape)
