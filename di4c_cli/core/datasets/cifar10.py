"""CIFAR-10 (Krizhevsky 2009): colour images of 32x32 pixels, reduced by block means for smaller codecs."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from di4c_cli.core import datasets
from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.codecs import Codec
from di4c_cli.core.datasets import MOST_IMAGES, Dataset, TensorSplit, data_root, spread_index
from di4c_cli.core.datasets._codec import expect_images
from di4c_cli.core.datasets._download import download_folder, downloading
from di4c_cli.core.datasets._images import block_means, encode, with_flips
from di4c_cli.errors import DataError, RecipeError

SIDE, NUM_CLASSES = 32, 10
FOLDER = "cifar-10-batches-py"
LOSSLESS, SHEETS, ROWS, HELD_OUT = "cifar10-lossless4k", 4, 1000, 400
TIMEOUT = 20.0  # seconds without a byte, after which a download is given up
HINT = f'put {FOLDER} into $DI4C_DATA; for a trial, $DI4C_DATA/{LOSSLESS} and dataset.source = "lossless4k"'

Images = UInt8[Tensor, "N 3 32 32"]
Labels = Int[Tensor, " N"]


class Config(datasets.ImageConfig):
    """50,000 images to train on and 10,000 held out, with labels; height and width must divide 32."""

    source: Literal["full", "lossless4k"] = "full"
    """ "full": from $DI4C_DATA or else a download; "lossless4k": only the first 4,000 training images, from
    $DI4C_DATA/cifar10-lossless4k, of which the last 400 are held out; too few for any published figure."""
    flips: bool = True
    """Every training image also mirrored: the second half of a training split of twice the length."""

    def build(self, codec: Codec) -> Dataset:
        image_codec = expect_images(codec, "pixels", "cifar10")
        _check(image_codec.image_shape)
        images, label = self._read(train=True)
        held_out, held_out_label = self._read(train=False)
        plain = TensorSplit(encode(images, image_codec), label)
        return Dataset(
            train=with_flips(plain, images, image_codec) if self.flips else plain,
            test=TensorSplit(encode(held_out, image_codec), held_out_label),
        )

    def images(self, image_shape: tuple[int, int, int]) -> Float[Tensor, "N C H W"]:
        _check(image_shape)
        images, _ = self._read(train=True)
        return block_means(images[spread_index(len(images), MOST_IMAGES)], image_shape[1:])

    def _read(self, *, train: bool) -> tuple[Images, Labels]:
        """Training or held-out images and labels."""
        if self.source == "full":
            return _batches(_root(), train=train)
        images, label = _sheets()
        cut = len(images) - HELD_OUT
        return (images[:cut], label[:cut]) if train else (images[cut:], label[cut:])


def _check(image_shape: tuple[int, int, int]) -> None:
    channels, height, width = image_shape
    if channels != 3 or SIDE % height or SIDE % width:
        raise RecipeError(
            f"codec: CIFAR-10 images are colour images of {SIDE}x{SIDE}, reduced by whole factors",
            "set channels = 3 and a height and width that divide 32, such as 16",
        )


def _root() -> Path:
    """The folder in which torchvision finds the batches, after a download if need be."""
    data = data_root()
    for root in [data, data / "cifar10"] if data is not None else []:
        if (root / FOLDER).is_dir():
            return root
    cache = download_folder()
    if not (cache / FOLDER / "test_batch").is_file():
        with downloading("CIFAR-10", cache, TIMEOUT, HINT):
            import_torchvision().datasets.CIFAR10(str(cache), download=True)
    return cache


def _batches(root: Path, *, train: bool) -> tuple[Images, Labels]:
    """One split of the published files, which torchvision reads only where their checksums are right.

    Raises:
        DataError: one is missing or damaged.
    """
    try:
        batches = import_torchvision().datasets.CIFAR10(str(root), train=train)
    except (OSError, RuntimeError) as error:
        cause = str(error).partition(".")[0]
        raise DataError(f"{root / FOLDER}: {cause}", HINT) from error
    images = torch.from_numpy(batches.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(batches.targets)


def _sheets() -> tuple[Images, Labels]:
    """The 4,000 images: four PNG files, an image a row, and a text file of labels.

    Raises:
        DataError: one is missing or not what it should be.
    """
    root = data_root()
    if root is None:
        raise DataError("cifar10: $DI4C_DATA is not set", f"set it to the folder that holds {LOSSLESS}")
    folder = root / LOSSLESS
    arrays = [_sheet(folder / f"cifar10_batch_{number}.png") for number in range(SHEETS)]
    path = folder / "labels.txt"
    try:
        label = torch.tensor([int(line) for line in path.read_text(encoding="ascii").split()])
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}", HINT) from error
    if len(label) != SHEETS * ROWS or label.min() < 0 or label.max() >= NUM_CLASSES:
        raise DataError(f"{path}: not {SHEETS * ROWS} classes from 0 to {NUM_CLASSES - 1}", HINT)
    images = torch.from_numpy(np.concatenate(arrays)).permute(0, 3, 1, 2).contiguous()
    return images, label


def _sheet(path: Path) -> UInt8[np.ndarray, "N 32 32 3"]:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if (picture.size, picture.mode) != ((SIDE * SIDE, ROWS), "RGB"):
                raise ValueError("not a picture of 1000 images, one a row")
            return np.asarray(picture).reshape(ROWS, SIDE, SIDE, 3)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}", HINT) from error
