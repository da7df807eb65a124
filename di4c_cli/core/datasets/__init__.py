"""Data sets: two splits of tokenised data points.

A file `<kind>.py` holds `Config(datasets.Config)` with `build(codec) -> Dataset`. Files are looked for below
$DI4C_DATA before any download. A missing or damaged file raises `DataError` with the place and what to do.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.codecs import Codec
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import Batch


@runtime_checkable
class Split(Sized, Protocol):
    """An indexable set of data points; in memory here, memory-mapped where data is large."""

    def __getitem__(self, index: Int[Tensor, " B"]) -> Batch: ...


@dataclass(frozen=True)
class TensorSplit:
    """A split held in memory."""

    x_0: Int[Tensor, "n D"]
    label: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.x_0)

    def __getitem__(self, index: Int[Tensor, " B"]) -> Batch:
        return Batch(self.x_0[index], None if self.label is None else self.label[index])


@dataclass(frozen=True)
class Dataset:
    """Training and held-out points; enumerable joints also carry the exact law."""

    train: Split
    test: Split
    joint: Float[Tensor, "*states"] | None = None
    """The exact joint law p(x_0) as a table of shape (S,) * D, for toys."""


def spread(split: Split, num: int) -> Batch:
    """`num` points evenly spaced over a split (all, if there are fewer).

    Splits need not be shuffled: the first half of MNIST's test images is the easier one.
    """
    return split[torch.linspace(0, len(split) - 1, min(num, len(split))).round().long()]


def data_root() -> Path | None:
    """$DI4C_DATA, the folder searched before any download."""
    value = os.environ.get("DI4C_DATA")
    return Path(value) if value else None


class Config(_Config, ABC):
    """What every data set is told: nothing yet."""

    @abstractmethod
    def build(self, codec: Codec) -> Dataset:
        """The component that this section describes."""
