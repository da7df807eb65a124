"""An n-gram model of the training text: interpolated Kneser-Ney with three discounts (Chen and Goodman 1999).

    p(x | h) = (c(h x) - d(c(h x))) / c(h) + (sum_y d(c(h y)) / c(h)) p(x | h')

h' is h without its first token; below the unigrams are equal shares of all states. c counts occurrences in
the text where h has its full length, and at the beginning of a row; elsewhere the different tokens in front
of h x, so that what is bound to one phrase counts once. It is made in seconds and needs no file.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import judges
from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.datasets import Dataset, Split, spread_index
from di4c_cli.core.datasets._mapped import WindowSplit
from di4c_cli.core.judges import fingerprint

NOWHERE = -1  # the number of an n-gram that the text does not have
LEAST = 0.1  # that is discounted: small texts estimate 0 or less, and what they lack would be impossible


class Shares:
    """What the n-grams behind a context get of its probability, and what is left for shorter contexts."""

    def __init__(self, counts: Float[Tensor, " G"], context: Int[Tensor, " G"], num_contexts: int) -> None:
        """`context` is the number of an n-gram's first n - 1 tokens."""
        taken = discounts(counts)
        total = context.bincount(counts, minlength=num_contexts)
        some = total.clamp(min=1)
        self.of_gram = (counts - taken) / some[context]
        # A context that never continues leaves all.
        self.left = torch.where(total > 0, context.bincount(taken, minlength=num_contexts) / some, 1.0)


def discounts(counts: Float[Tensor, " G"]) -> Float[Tensor, " G"]:
    """What is taken from counts of 1, of 2, and of 3 and more, by how many of them are 1, 2, 3 and 4."""
    n = [1.0, *((counts == times).sum().clamp(min=1).item() for times in (1, 2, 3, 4))]
    y = n[1] / (n[1] + 2 * n[2])
    amounts = [min(max(k - (k + 1) * y * n[k + 1] / n[k], LEAST), k - LEAST) for k in (1, 2, 3)]
    return torch.tensor([0.0, *amounts], dtype=torch.float64)[counts.long().clamp(max=3)]


class NGram:
    """Counts of all n-grams of a text for n = 1 .. order, as sorted tables.

    An n-gram is the number of its first n - 1 tokens in the table before, times S, plus its last token; its
    own number is its place in the table. Contexts are thus looked up by sorting and bisection, whatever S.
    """

    def __init__(self, text: Int[Tensor, "R W"], num_states: int, order: int) -> None:
        self.num_states = num_states
        self._grams: list[Int[Tensor, " G"]] = []
        occurrences: list[Float[Tensor, " G"]] = []
        varied: list[
            Float[Tensor, " G"]
        ] = []  # of the table before: how many different tokens stand in front
        place = text.new_zeros(len(text), text.shape[1] + 1)  # of no tokens at all, there is one n-gram
        for n in range(1, min(order, text.shape[1]) + 1):
            shorter, num_shorter = place, len(self._grams[-1]) if self._grams else 1
            keys = shorter[:, :-1] * num_states + text[:, n - 1 :]
            grams, place, counts = keys.unique(return_inverse=True, return_counts=True)
            inner = torch.empty_like(grams)  # each without its first token
            inner[place.flatten()] = shorter[:, 1:].flatten()
            varied.append(inner.bincount(minlength=num_shorter).double())
            self._grams.append(grams)
            occurrences.append(counts.double())
        varied = [*varied[1:], occurrences[-1]]
        sizes = [1, *(len(grams) for grams in self._grams)]
        contexts = [grams // num_states for grams in self._grams]
        self._whole, self._short = (
            [Shares(*level) for level in zip(counts, contexts, sizes, strict=False)]
            for counts in (occurrences, varied)
        )
        tables = {f"grams.{n}": grams for n, grams in enumerate(self._grams)}
        tables |= {f"counts.{n}": counts for n, counts in enumerate(occurrences)}
        self.name = (
            f"{len(self._grams)}-gram over {text.numel():,} tokens of {num_states:,} states"
            f" ({sum(sizes[1:]):,} n-grams), float64, sha256 {fingerprint(tables)}"
        )

    def nats(self, rows: Int[Tensor, "N D"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        return self.token_nats(rows).sum(1), torch.full((len(rows),), rows.shape[1], dtype=torch.float64)

    def token_nats(self, rows: Int[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """-log p of each token given the order - 1 before it in its row, or as many as there are."""
        p = torch.full(rows.shape, 1 / self.num_states, dtype=torch.float64)
        context = torch.zeros_like(rows)  # number of the n - 1 tokens before each; of none, there is one
        for n, grams in enumerate(self._grams[: rows.shape[1]], 1):
            place = _look_up(grams, context * self.num_states + rows[:, n - 1 :], context)
            lower = p[:, n - 1 :]
            p = torch.cat([
                p[:, : n - 1],
                # The n-th token of a row has no longer context than this.
                _interpolated(self._whole[n - 1], place[:, :1], context[:, :1], lower[:, :1]),
                _interpolated(self._short[n - 1], place[:, 1:], context[:, 1:], lower[:, 1:]),
            ], 1)  # fmt: skip
            context = place[:, :-1]
        return -p.log()


def _look_up(
    grams: Int[Tensor, " G"], keys: Int[Tensor, "N places"], context: Int[Tensor, "N places"]
) -> Int[Tensor, "N places"]:
    """The places of keys in a table; nowhere is what it has not, and what has an unknown context."""
    place = torch.searchsorted(grams, keys).clamp_(max=len(grams) - 1)
    return place.where((grams[place] == keys) & (context != NOWHERE), torch.tensor(NOWHERE))


def _interpolated(
    shares: Shares,
    place: Int[Tensor, "N places"],
    context: Int[Tensor, "N places"],
    lower: Float[Tensor, "N places"],
) -> Float[Tensor, "N places"]:
    """p given a context from p given a shorter one."""
    own = shares.of_gram[place.clamp(min=0)] * (place != NOWHERE)
    return torch.where(context != NOWHERE, own + shares.left[context.clamp(min=0)] * lower, lower)


def text_once(split: Split, most: int) -> Int[Tensor, "R W"]:
    """The tokens of a split, each once: all, or about `most` in rows spread evenly over it.

    Windows overlap: counted as they come, rare contexts would look like frequent ones. The rows below them
    follow each other, and are one long row where all are taken.
    """
    rows = split.rows if isinstance(split, WindowSplit) else split
    width = rows[torch.arange(1)].x_0.shape[1]
    text = rows[spread_index(len(rows), max(1, most // width))].x_0
    return text.view(1, -1) if isinstance(split, WindowSplit) and len(text) == len(rows) else text


class Config(judges.Config):
    """An interpolated n-gram model, counted on the training split: no download, no training."""

    order: int = Field(6, ge=1, le=16)
    """The longest n-grams; what a token depends on are the order - 1 before it."""
    most_tokens: int = Field(2**24, ge=1)
    """Tokens that are counted, in rows spread evenly over the split; there may be fewer."""

    def build(self, dataset: Dataset, codec: TextCodec, cache: Path, device: torch.device | str) -> NGram:
        return NGram(text_once(dataset.train, self.most_tokens), codec.space.num_states, self.order)
