"""Sequences of one length in a table: tab-separated, with the column `sequence`."""

from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.sequences import SequenceCodec
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.datasets._codec import expect
from di4c_cli.core.datasets._lines import located, read_lines
from di4c_cli.core.datasets._sequences import SplitConfig
from di4c_cli.errors import DataError

PROMOTERS = "sequences-dna/human_core_promoter_70bp.tsv"
COLUMN = "sequence"


class Config(SplitConfig):
    """The column `sequence` of a table; with no path, human core promoters below $DI4C_DATA."""

    def build(self, codec: Codec) -> Dataset:
        """Raises DataError for a file that is missing or no such table."""
        sequences = expect(codec, SequenceCodec, "sequences", "sequences")
        path = located(self.path, PROMOTERS, "sequences")
        header, *lines = read_lines(path) or [""]
        names = header.split("\t")
        if COLUMN not in names:
            raise DataError(f"{path}:1: no column {COLUMN!r}", "name it in the first line, tab-separated")
        column, rows = names.index(COLUMN), [line.split("\t") for line in lines]
        short = next((k for k, row in enumerate(rows) if row != [""] and len(row) <= column), None)
        if short is not None:
            raise DataError(f"{path}:{short + 2}: no {COLUMN} in it", "give every line all columns")
        return self.split([row[column] for row in rows if row != [""]], sequences, path)
