"""The rows of an alignment: FASTA, or a3m, whose lower-case letters are insertions between the columns."""

from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.sequences import SequenceCodec
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.datasets._codec import expect
from di4c_cli.core.datasets._lines import located, read_lines
from di4c_cli.core.datasets._sequences import SplitConfig

STRESS = "sequences-protein/hhblits_uniclust_2017_10_5ahw_1_A.a3m"


class Config(SplitConfig):
    """An alignment without its insertions; with no path, that of stress proteins (5ahw) below $DI4C_DATA."""

    def build(self, codec: Codec) -> Dataset:
        """Raises DataError for a file that is missing, or whose rows do not fit the codec."""
        sequences = expect(codec, SequenceCodec, "sequences", "alignment")
        path = located(self.path, STRESS, "alignment")
        rows: list[str] = []
        for line in read_lines(path):
            if line.startswith(">"):
                rows.append("")
            elif rows:
                rows[-1] += "".join(letter for letter in line if not letter.islower())
        return self.split(rows, sequences, path)
