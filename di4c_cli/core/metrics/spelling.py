"""Spelling of running text: whether its words are words of the training text."""

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.datasets import Dataset, spread_index
from di4c_cli.core.metrics import Direction, PerItem, Trial, _text
from di4c_cli.core.metrics._text import text_codec

READ = 2**24  # tokens of the training text
READ_AT_ONCE = 2**20
APOSTROPHES = "'’"


def complete_words(codec: TextCodec, rows: Int[Tensor, "N D"]) -> list[list[str]]:
    """The words of each row, as often as they occur, case folded.

    A word is a run of letters, with apostrophes inside, and something else before and behind it in its row.
    """
    texts = codec.decode(rows)
    if codec.document_end is not None:
        # It is shown by a name, which is no word. At the ends of wrapped rows it cuts words as the ends do.
        end = codec.decode(torch.tensor([[codec.document_end]]))[0]
        texts = [text.removeprefix(end).removesuffix(end).replace(end, "\n") for text in texts]
    texts = [text.casefold() for text in texts]
    gaps = {ord(c): " " for c in set().union(*texts) if not (c.isalpha() or c in APOSTROPHES)}
    runs = [text.translate(gaps).split(" ")[1:-1] for text in texts]  # the first and the last may be cut
    return [[word for run in row if (word := run.strip(APOSTROPHES))] for row in runs]


@lru_cache(maxsize=2)
def vocabulary(dataset: Dataset, codec: TextCodec) -> frozenset[str]:
    """The words of the training rows: of all, or of 2^24 tokens in rows spread evenly over them."""
    D = codec.space.num_dims
    index = spread_index(len(dataset.train), max(1, READ // D))
    pieces = index.split(max(1, READ_AT_ONCE // D))
    return frozenset(
        word for piece in pieces for row in complete_words(codec, dataset.train[piece].x_0) for word in row
    )


class Spelling:
    """`valid_words`: the share of complete words that the training text has; 0 where there are none.

    `words_per_sample`: how many complete words a sample has. Words cut by the ends of a sample are left out.
    """

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"valid_words": "higher", "words_per_sample": "report"}

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        codec = text_codec(trial)
        known = vocabulary(trial.dataset, codec)
        rows = complete_words(codec, trial.samples.cpu())
        valid = torch.tensor([sum(word in known for word in row) for row in rows])
        words = torch.tensor([len(row) for row in rows])
        return {
            "valid_words": PerItem(valid.double(), words.double()),
            "words_per_sample": PerItem.mean(words.double()),
        }


class Config(_text.Config):
    """Share of valid words in running text."""

    def build(self) -> Spelling:
        return Spelling()
