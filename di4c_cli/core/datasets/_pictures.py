"""Pictures of any format and size, in one folder a class."""

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from di4c_cli.core.datasets._mapped import Array
from di4c_cli.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no format here runs another program
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))
MOST_PIXELS = 2**26  # of one file: a picture that is small on disk can be any size in memory
AT_ONCE = 64  # pictures that are read together
HINT = "set dataset.path to a folder that holds one folder of pictures a class"

Picture = UInt8[np.ndarray, "H W C"]


@dataclass(frozen=True)
class Pictures:
    """Files in class folders; classes are numbered by name."""

    root: Path
    classes: tuple[str, ...]
    files: list[str]
    """Below the root, as class/.../name."""
    label: list[int]

    @classmethod
    def find(cls, root: Path) -> "Pictures":
        """All pictures, told by their suffixes, in the order of their names.

        Raises:
            DataError: no folder, or no pictures in class folders.
        """
        try:
            with os.scandir(root) as entries:
                classes = sorted(entry.name for entry in entries if entry.is_dir())
            found = [sorted(_below(root, name)) for name in classes]
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}", HINT) from error
        files = [name for names in found for name in names]
        if not files:
            raise DataError(f"{root}: no pictures in class folders", HINT)
        label = [number for number, names in enumerate(found) for _ in names]
        return cls(root, tuple(classes), files, label)

    def __len__(self) -> int:
        return len(self.files)

    def divided(self, share: float) -> tuple["Pictures", "Pictures"]:
        """The first files of every class, and the last.

        Raises:
            DataError: that share of every class is less than one picture.
        """
        label = np.array(self.label)
        count = np.bincount(label, minlength=len(self.classes))
        place = np.arange(len(self)) - (count.cumsum() - count)[label]  # of a file in its class
        held_out = place >= (count - (count * share).astype(int))[label]
        if not held_out.any():
            raise DataError(
                f"{self.root}: no class has enough pictures to hold out {share:g} of them",
                "raise dataset.held_out, or set dataset.test_path",
            )
        return self.chosen(np.flatnonzero(~held_out)), self.chosen(np.flatnonzero(held_out))

    def chosen(self, index: Array) -> "Pictures":
        """Some of the files."""
        files, label = ([values[i] for i in index] for values in (self.files, self.label))
        return Pictures(self.root, self.classes, files, label)

    def identity(self) -> str:
        """sha256 of all names."""
        return hashlib.sha256("\n".join([*self.classes, "", *self.files]).encode()).hexdigest()

    def read(
        self, begin: int, end: int, shape: tuple[int, int, int], pool: ThreadPoolExecutor
    ) -> Iterator[list[Picture | None]]:
        """Files begin..end, `AT_ONCE` at a time, the next ones being read meanwhile; None for no picture.

        Raises:
            DataError: a file cannot be read at all: a disk in trouble, not a damaged picture.
        """
        waiting: deque[list[Future[Picture | None]]] = deque()
        for i in range(begin, end, AT_ONCE):
            names = self.files[i : min(i + AT_ONCE, end)]
            waiting.append([pool.submit(read_picture, self.root / name, shape) for name in names])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.popleft()]
        for futures in waiting:
            yield [future.result() for future in futures]


def _below(root: Path, folder: str) -> Iterator[str]:
    """Pictures of a folder and of the folders in it, as paths below the root."""
    with os.scandir(root / folder) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}"
            if entry.is_dir():
                yield from _below(root, name)
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield name


def read_picture(path: Path, shape: tuple[int, int, int]) -> Picture | None:
    """The largest middle part of a picture with the proportions of (C, H, W), resized (bilinear, smoothed).

    None where the file is no whole picture of a known format, or one beyond all sizes.

    Raises:
        DataError: the file cannot be read at all.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "start again: what is done is kept") from error
    try:
        return _decoded(content, *shape)
    except Exception:  # decoders fail on damaged bytes in more ways than can be listed
        return None


def _decoded(content: bytes, channels: int, height: int, width: int) -> Picture:
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:  # known before anything is decoded
            raise ValueError(f"{picture.width}x{picture.height} pixels")
        whole = picture.convert("RGB" if channels == 3 else "L")
    scale = min(whole.width / width, whole.height / height)
    left, top = (whole.width - scale * width) / 2, (whole.height - scale * height) / 2
    # Cut out first: a long thin picture, resized as a whole, would be any size.
    box = (left, top, left + scale * width, top + scale * height)
    resized = whole.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized, dtype=np.uint8).reshape(height, width, channels)
