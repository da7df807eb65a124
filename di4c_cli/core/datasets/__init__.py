"""Data sets: two splits of tokenised data points.

A file `<kind>.py` holds `Config(datasets.Config)` with `build(codec) -> Dataset`. Files are looked for below
$DI4C_DATA before any download. A missing or damaged file raises `DataError` with the place and what to do.
Small data are held in memory; large ones are tokenised once into a memory-mapped cache (`_cache.py`).
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from di4c_cli.core.codecs import Codec
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import Batch

MOST_IMAGES = 20_000


@runtime_checkable
class Split(Sized, Protocol):
    """An indexable set of data points, in memory or memory-mapped."""

    def __getitem__(self, index: Int[Tensor, " B"]) -> Batch: ...


@dataclass(frozen=True)
class TensorSplit:
    """A split held in memory."""

    x_0: Integer[Tensor, "n D"]
    """In a type of any size; batches are int64."""
    label: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.x_0)

    def part(self, start: int, stop: int) -> "TensorSplit":
        """Some of the rows."""
        return TensorSplit(self.x_0[start:stop], None if self.label is None else self.label[start:stop])

    def __getitem__(self, index: Int[Tensor, " B"]) -> Batch:
        return Batch(self.x_0[index].long(), None if self.label is None else self.label[index])


def compact(tokens: Integer[Tensor, "n D"], num_states: int) -> Integer[Tensor, "n D"]:
    """The same tokens in a smaller type, an eighth of int64 where there are at most 256 states."""
    small = num_states <= 2**8
    return tokens.to(torch.uint8 if small else torch.int16 if num_states <= 2**15 else torch.int32)


@dataclass(frozen=True)
class Dataset:
    """Training and held-out points; enumerable joints also carry the exact law."""

    train: Split
    test: Split
    joint: Float[Tensor, "*states"] | None = None
    """The exact joint law p(x_0) as a table of shape (S,) * D, for toys."""


def spread_index(size: int, num: int) -> Int[Tensor, " n"]:
    """`num` of `size` indices, evenly spaced (all, if there are fewer)."""
    # float32 rounds sizes beyond 2^24 up; below, published figures stand on these very indices.
    return torch.linspace(0, size - 1, min(num, size)).round().long().clamp_(max=size - 1)


def spread(split: Split, num: int) -> Batch:
    """`num` points evenly spaced over a split (all, if there are fewer).

    Splits need not be shuffled: the first half of MNIST's test images is the easier one.
    """
    return split[spread_index(len(split), num)]


def between(split: Split, num: int) -> Batch:
    """As `spread`, from the middles of `num` equal stretches: for the most part other points than those."""
    return split[spread_index(len(split), 2 * num + 1)[1::2]] if len(split) > 2 * num else spread(split, num)


def data_root() -> Path | None:
    """$DI4C_DATA, the folder searched before any download."""
    value = os.environ.get("DI4C_DATA")
    return Path(value) if value else None


class Config(_Config, ABC):
    """What every data set is told: nothing yet."""

    @abstractmethod
    def build(self, codec: Codec) -> Dataset:
        """The component that this section describes."""


class ImageConfig(Config):
    """A data set of images, which any codec of images can be fitted to."""

    @abstractmethod
    def images(self, image_shape: tuple[int, int, int]) -> Float[Tensor, "N C H W"]:
        """Training images in [0, 1] of that (C, H, W): all, or `MOST_IMAGES` spread evenly over them.

        Raises:
            RecipeError: the images cannot be reduced to that size.
        """
