"""Splits over memory-mapped shards of tokens, and over all windows of rows that follow each other."""

import math
import struct
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from di4c_cli.core.datasets import Split
from di4c_cli.core.space import Batch
from di4c_cli.errors import DataError

Array = np.ndarray
HEADER = 128  # bytes
OPEN_MAPS = 200  # each holds a file descriptor, of which a process often has no more than 1024


class Shape(NamedTuple):
    """What an array file has to be."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def header(self) -> bytes:
        """The first bytes of a .npy file (format 1.0) of that shape and type.

        Our own, so that the same data give the same bytes under every version of numpy, and a file is checked
        by comparing and not by parsing it.
        """
        text = f"{{'descr': '{np.dtype(self.dtype).str}', 'fortran_order': False, 'shape': {self.shape}, }}"
        return (
            b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10) + text.ljust(HEADER - 11).encode() + b"\n"
        )

    @property
    def nbytes(self) -> int:
        """The size of the file."""
        return HEADER + math.prod(self.shape) * np.dtype(self.dtype).itemsize


def shard_path(folder: Path, number: int, suffix: str = "") -> Path:
    """The file of a shard's tokens, or with ".label" of its classes."""
    return folder / f"{number:05d}{suffix}.npy"


def check_file(path: Path, wanted: Shape) -> None:
    """Raises DataError where an array file is missing, truncated, or not of that shape and type."""
    try:
        if path.is_symlink():
            raise ValueError("a link")
        with open(path, "rb") as file:
            if file.read(HEADER) != wanted.header:
                raise ValueError(f"not an array of {wanted.dtype} {wanted.shape}")
        if (size := path.stat().st_size) != wanted.nbytes:
            raise ValueError(f"{size} bytes for {wanted.nbytes}")
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: damaged: {cause}", "remove this file: its shard alone is made anew"
        ) from None


@lru_cache(maxsize=OPEN_MAPS)
def mapped_file(path: Path, wanted: Shape) -> Array:
    """The values of an array file, mapped.

    Raises:
        DataError: see `check_file`.
    """
    check_file(path, wanted)
    # As a plain array: a memmap object makes every slice of it a memmap, several times slower.
    return np.asarray(np.memmap(path, dtype=wanted.dtype, mode="r", offset=HEADER, shape=wanted.shape))


@dataclass(frozen=True)
class MappedSplit:
    """Rows start..stop of a cache. Holds no open file: it can be pickled."""

    folder: Path
    counts: tuple[int, ...]
    """Rows of each shard."""
    width: int
    dtype: str
    num_states: int
    label: Int[Tensor, " n"] | None = None
    """Of all rows of the cache."""
    start: int = 0
    stop: int = 0

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> "MappedSplit":
        """Some of the rows, counted in this split."""
        return replace(self, start=self.start + start, stop=self.start + stop)

    @cached_property
    def _ends(self) -> Array:
        return np.cumsum(self.counts)

    def __getitem__(self, index: Int[Tensor, " B"]) -> Batch:
        """Raises DataError where a file no longer is what it was."""
        row = index.numpy() + self.start
        if row.size and not self.start <= row.min() <= row.max() < self.stop:
            raise IndexError(f"an index is not in 0..{len(self) - 1}")
        shard = np.searchsorted(self._ends, row, side="right")
        tokens = np.empty((len(row), self.width), dtype=np.int64)
        for number in np.unique(shard).tolist():
            count = self.counts[number]
            values = mapped_file(shard_path(self.folder, number), Shape((count, self.width), self.dtype))
            chosen = shard == number
            tokens[chosen] = values[row[chosen] - (self._ends[number] - count)]
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.num_states:
            damaged = ", ".join(f"{number:05d}.npy" for number in np.unique(shard).tolist())
            raise DataError(
                f"{self.folder}: damaged: tokens that are not states in one of {damaged}",
                "remove these files: they alone are made anew",
            )
        x_0 = torch.from_numpy(tokens)
        return Batch(x_0, None if self.label is None else self.label[torch.from_numpy(row)])


@dataclass(frozen=True)
class WindowSplit:
    """All windows of D tokens, `stride` apart, of rows that follow each other without a gap; never copied."""

    rows: Split
    width: int
    """D."""
    stride: int

    def __len__(self) -> int:
        return (len(self.rows) - 1) * self.width // self.stride + 1

    def __getitem__(self, index: Int[Tensor, " B"]) -> Batch:
        row, offset = index * self.stride // self.width, index * self.stride % self.width
        following = (row + 1).clamp_(max=len(self.rows) - 1)  # behind the last row nothing is taken
        both = torch.cat([self.rows[row].x_0, self.rows[following].x_0], 1)
        return Batch(both.gather(1, offset[:, None] + torch.arange(self.width)))
