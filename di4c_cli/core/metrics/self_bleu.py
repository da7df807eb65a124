"""Self-BLEU (Zhu et al. 2018): how much of each sample's wording other samples have, too."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core.metrics import Direction, PerItem, Trial, _text
from di4c_cli.core.metrics._text import text_codec

ORDERS = (1, 2, 3, 4)
UNSEEN = 0.1  # matches that an order without any counts as (Chen and Cherry 2014, smoothing 1)

Gram = tuple[str, ...]


def self_bleu(texts: Sequence[Sequence[str]]) -> Float[Tensor, " N"]:
    """BLEU-4 (Papineni et al. 2002) of each text against all the others, with brevity penalty, smoothed.

    A single text, or one without a word that another has, scores 0.
    """
    log_precision = torch.stack([_log_precision(texts, n) for n in ORDERS]).mean(0)
    return log_precision.exp() * _brevity([len(text) for text in texts])


def _log_precision(texts: Sequence[Sequence[str]], n: int) -> Float[Tensor, " N"]:
    """Logarithm of the share of a text's n-grams that one of the others has at least as often."""
    counts = [Counter(zip(*(text[k:] for k in range(n)), strict=False)) for text in texts]
    # The most that any text but one has of a gram is the first of these, or the second if it is that text's.
    most: dict[Gram, tuple[int, int]] = {}
    for count in counts:
        for gram, times in count.items():
            first, second = most.get(gram, (0, 0))
            most[gram] = (max(first, times), max(min(first, times), second))
    shares = []
    for count in counts:
        others = {gram: most[gram][times == most[gram][0]] for gram, times in count.items()}
        matches: float = sum(min(times, others[gram]) for gram, times in count.items())
        if not matches and n > 1:
            matches = UNSEEN
        shares.append(matches / max(1, count.total()))
    return torch.tensor(shares, dtype=torch.float64).log()


def _brevity(lengths: list[int]) -> Float[Tensor, " N"]:
    """exp(1 - r / c) for a text shorter than r, the nearest length of another; the shorter of two as near."""
    ordered = sorted(lengths)
    penalties = []
    for length in lengths:
        place = bisect_left(ordered, length)
        near = ordered[max(0, place - 1) : place] + ordered[place + 1 : place + 2]
        nearest = min(near, key=lambda other: (abs(other - length), other), default=0)
        penalties.append(math.exp(min(0.0, 1 - nearest / length)) if length else 0.0)
    return torch.tensor(penalties, dtype=torch.float64)


class SelfBleu:
    """`self_bleu`: mean over a subset of the samples, words parted by white space; 1 where all are the same.

    `self_bleu_continuation`: the same without the first `skip` tokens, of samples that share a beginning.
    """

    def __init__(self, num: int, skip: int) -> None:
        self.directions: dict[str, Direction] = {"self_bleu": "report"}
        if skip:
            self.directions["self_bleu_continuation"] = "report"
        self.num = num
        self.skip = skip

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        codec = text_codec(trial)
        generator = torch.Generator().manual_seed(trial.seed)
        subset = torch.randperm(len(trial.samples), generator=generator)[: self.num]
        rows = trial.samples.cpu()[subset]
        starts = dict(zip(self.directions, (0, self.skip), strict=False))
        texts = {
            name: [text.split() for text in codec.decode(rows[:, start:])] for name, start in starts.items()
        }
        return {name: PerItem.mean(self_bleu(words)) for name, words in texts.items()}


class Config(_text.Config):
    """Likeness of samples among each other. It rises with their number: compare at the same `num`."""

    num: int = Field(200, ge=2)
    """Samples, drawn by the seed of the trial; each is compared with all the others."""
    skip: int = Field(0, ge=0)
    """Tokens of a beginning that samples share, which are left out for a second figure; 0: none is shared."""

    def build(self) -> SelfBleu:
        return SelfBleu(self.num, self.skip)
