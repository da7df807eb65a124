"""Sequences of one length that are split at random: what data sets of files of them share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from di4c_cli.core import datasets
from di4c_cli.core.codecs.sequences import SequenceCodec
from di4c_cli.core.datasets import Dataset, TensorSplit, compact
from di4c_cli.errors import DataError


class SplitConfig(datasets.Config):
    """Different sequences in a random order: the first are the test, the next as many are to choose by."""

    path: str | None = None
    """The file; $NAMES are of the environment; unset: the one below $DI4C_DATA that the class names."""
    held_out: Literal["test", "valid"] = "test"
    """What is held out: `valid` to choose settings by, with the rows of `test` put away, or `test`."""
    share: float = Field(0.2, gt=0, lt=0.5)
    """The share of sequences that is held out."""
    seed: int = Field(0, ge=0)
    """Of the random order."""

    def split(self, rows: Sequence[str], codec: SequenceCodec, path: Path) -> Dataset:
        """Different sequences as two splits.

        Raises:
            DataError: one that does not fit the codec, or too few.
        """
        different = list(dict.fromkeys(rows))
        for row in different:
            if len(row) != codec.length:
                raise DataError(
                    f"{path}: a sequence of {len(row)} letters: {row[:20]}...",
                    f"set codec.length = {len(row)}",
                )
            if foreign := sorted(set(row) - set(codec.alphabet)):
                raise DataError(f"{path}: {foreign[0]!r} is not in the alphabet", "add it to codec.alphabet")
        size = int(len(different) * self.share)
        if size == 0:
            raise DataError(f"{path}: {len(different)} sequences, too few to hold some out", "give more")
        order = torch.randperm(len(different), generator=torch.Generator().manual_seed(self.seed))
        x_0 = compact(codec.encode(different), codec.space.num_states)[order]
        first = 0 if self.held_out == "test" else size
        return Dataset(train=TensorSplit(x_0[first + size :]), test=TensorSplit(x_0[first : first + size]))
