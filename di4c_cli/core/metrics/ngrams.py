"""N-grams of tokens: whether samples have those of real text, each as often, and how many different ones."""

import math
from collections.abc import Iterator
from statistics import fmean

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core.codecs import Codec
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.metrics import Direction, Trial, _text
from di4c_cli.core.metrics._text import real_text


def ngram_ids(rows: Int[Tensor, "N D"], longest: int) -> Iterator[Int[Tensor, "N places"]]:
    """For n = 1 .. longest the numbers of each row's n-grams, from 0 on; equal ones have equal numbers."""
    shorter = single = rows.unique(return_inverse=True)[1]
    yield single
    for n in range(2, longest + 1):
        # A number below N D times a token below S: no overflow, whatever n.
        pairs = shorter[:, :-1] * (single.max() + 1) + single[:, n - 1 :]
        shorter = pairs.unique(return_inverse=True)[1]
        yield shorter


def jensen_shannon(p: Float[Tensor, " V"], q: Float[Tensor, " V"]) -> float:
    """Divergence of two distributions in bits: 0 where they are equal, 1 where they share nothing."""
    entropy = torch.special.entr
    nats = entropy((p + q) / 2).sum() - (entropy(p).sum() + entropy(q).sum()) / 2
    return max(0.0, nats.item()) / math.log(2)


class NGrams:
    """`ngram_js_n`: Jensen-Shannon divergence, bits, between the n-grams of samples and of held-out text;
    `ngram_js`: its mean over n.

    Two finite texts of one source differ, too, the more so the longer the n-grams: the floor, training text
    against the held-out one, is what to compare with, at the same number of samples.
    `distinct_n`: the share of different ones among all n-grams of all samples; it falls with their number.
    `unique`: the share of samples that is left without repeats.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        orders = range(1, longest + 1)
        self.directions: dict[str, Direction] = {
            "ngram_js": "lower",
            **{f"ngram_js_{n}": "lower" for n in orders},
            **{f"distinct_{n}": "report" for n in orders},
            "unique": "higher",
        }

    def __call__(self, trial: Trial) -> dict[str, float]:
        samples = trial.samples.cpu()
        both = torch.cat([samples, real_text(trial)])
        figures: dict[str, float] = {"unique": len(samples.unique(dim=0)) / len(samples)}
        for n, ids in enumerate(ngram_ids(both, self.longest), 1):
            parts = ids.split([len(samples), len(both) - len(samples)])
            counts = [part.flatten().bincount(minlength=int(ids.max()) + 1).double() for part in parts]
            p, q = (count / count.sum() for count in counts)
            figures[f"ngram_js_{n}"] = jensen_shannon(p, q)
            figures[f"distinct_{n}"] = (counts[0] > 0).sum().item() / parts[0].numel()
        orders = range(1, self.longest + 1)
        return figures | {"ngram_js": fmean(figures[f"ngram_js_{n}"] for n in orders)}


class Config(_text.Config):
    """N-gram divergence from held-out text, shares of distinct n-grams and of unique samples."""

    longest: int = Field(4, ge=1, le=8)
    """The longest n-grams; all shorter ones are counted, too."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        super().check(codec, dataset)
        length = codec.space.num_dims
        if length < self.longest:
            raise ValueError(f"rows of {length} tokens have no {self.longest}-grams; lower longest")

    def build(self) -> NGrams:
        return NGrams(self.longest)
