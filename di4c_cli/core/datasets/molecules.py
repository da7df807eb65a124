"""Molecules as SMILES strings, in the splits that a folder of text files comes with."""

from pathlib import Path
from typing import Literal

from di4c_cli.core import datasets
from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.smiles import SmilesCodec
from di4c_cli.core.datasets import Dataset, TensorSplit, compact
from di4c_cli.core.datasets._codec import expect
from di4c_cli.core.datasets._lines import located, read_lines
from di4c_cli.errors import DataError

HEADER = "smiles"


class Config(datasets.Config):
    """A SMILES string a line, in train.txt and in the file of the held-out split, below an optional header.

    Strings longer than the codec's length are left out of both splits.
    """

    path: str | None = None
    """The folder; $NAMES are of the environment; unset: $DI4C_DATA/molecules-qm9."""
    held_out: Literal["test", "valid"] = "test"
    """The split that is held out: valid.txt to choose settings by, test.txt to judge."""

    def build(self, codec: Codec) -> Dataset:
        """Raises DataError for files that are missing, hold nothing or a character without a state."""
        smiles = expect(codec, SmilesCodec, "smiles", "molecules")
        folder = located(self.path, "molecules-qm9", "molecules")
        train, test = (_split(folder / f"{name}.txt", smiles) for name in ("train", self.held_out))
        return Dataset(train=train, test=test)


def _split(path: Path, codec: SmilesCodec) -> TensorSplit:
    rows = [text for text in read_lines(path) if text and text != HEADER and len(text) <= codec.length]
    if not rows:
        raise DataError(f"{path}: no SMILES of at most {codec.length} characters", "raise codec.length")
    foreign = sorted(set("".join(rows)) - set(codec.alphabet))
    if foreign:
        raise DataError(f"{path}: {foreign[0]!r} is not in the alphabet", "add it to codec.alphabet")
    return TensorSplit(compact(codec.encode(rows), codec.space.num_states))
