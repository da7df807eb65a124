"""Sequences of one length: their letters, runs, columns and pairs of columns beside held-out ones; copies."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from di4c_cli.core import metrics
from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.sequences import SequenceCodec
from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.metrics import Direction, PerItem, Trial
from di4c_cli.core.metrics._distances import wasserstein
from di4c_cli.core.metrics._pairs import column_laws, connected, mutual_information, pearson
from di4c_cli.core.metrics._text import real_text
from di4c_cli.core.metrics.ngrams import jensen_shannon, ngram_ids

CHUNK = 250  # rows whose distances are held at a time


def nearest_share(rows: Int[Tensor, "N D"], others: Int[Tensor, "M D"], S: int) -> Float[Tensor, " N"]:
    """The Hamming distance of each row to the nearest of the others, as a share of D."""
    known = one_hot(others.long(), S).flatten(1).float()
    equal = [(one_hot(part.long(), S).flatten(1).float() @ known.T).amax(1) for part in rows.split(CHUNK)]
    return 1 - torch.cat(equal).double() / rows.shape[1]


def kmer_js(rows: Int[Tensor, "N D"], others: Int[Tensor, "M D"], k: int) -> float:
    """Jensen-Shannon divergence, bits, of the spectra of runs of k letters, wherever they are."""
    *_, ids = ngram_ids(torch.cat([rows, others]), k)
    parts = ids.split([len(rows), len(others)])
    counts = [part.flatten().bincount(minlength=int(ids.max()) + 1).double() for part in parts]
    return jensen_shannon(*(count / count.sum() for count in counts))


@lru_cache(maxsize=2)
def _scale(dataset: Dataset, num_states: int) -> tuple[Int[Tensor, "M D"], float]:
    """The training rows, and the 1st percentile of the held-out rows' distances to them."""
    train, test = (spread(split, len(split)).x_0 for split in (dataset.train, dataset.test))
    return train, nearest_share(test, train, num_states).quantile(0.01, interpolation="lower").item()


class Sequences:
    """Samples beside held-out rows; the floor sets those beside training rows.

    `pair_r`: the correlation coefficient between the connected frequencies of samples and of held-out rows,
    p(a in i, b in j) - p(a in i) p(b in j), over all pairs of columns and letters; a product law has none.
    `pair_distance`: the root of their summed squared differences. Sampling noise is in it on both sides.
    `mi_distance`: mean absolute difference of columns' mutual information, nats, at equal numbers of rows.
    `profile_distance`: mean total variation between the laws of a column.
    `kmer_js`: divergence of the spectra of k letters, bits.
    `content_distance`: Wasserstein-1 between the shares of the given letters in a sequence.
    `nearest`: mean share of letters that differ from the nearest training row; `copies`: the share of
    samples nearer than 1 % of held-out rows; `unique`: the share left without repeats.
    """

    def __init__(self, k: int, letters: str) -> None:
        self.k = k
        self.letters = letters
        self.directions: dict[str, Direction] = {
            "pair_r": "higher",
            "pair_distance": "lower",
            "mi_distance": "lower",
            "profile_distance": "lower",
            "kmer_js": "lower",
            "content_distance": "lower",
            "nearest": "report",
            "copies": "lower",
            "unique": "higher",
        }

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        codec = trial.codec
        assert isinstance(codec, SequenceCodec)
        S, ours, real = codec.space.num_states, trial.samples.cpu(), real_text(trial)
        pairs = [connected(rows, S) for rows in (ours, real)]
        even = min(len(ours), len(real))
        informed = [mutual_information(rows[:even], S) for rows in (ours, real)]
        profiles = [column_laws(rows, S) for rows in (ours, real)]
        counted = codec.tokenize(self.letters)
        content = [torch.isin(rows, counted).double().mean(1) for rows in (ours, real)]
        train, limit = _scale(trial.dataset, S)
        nearest = nearest_share(ours, train, S)
        return {
            "pair_r": pearson(*pairs),
            "pair_distance": (pairs[0] - pairs[1]).norm().item(),
            "mi_distance": (informed[0] - informed[1]).abs().mean().item(),
            "profile_distance": (profiles[0] - profiles[1]).abs().sum(1).mean().item() / 2,
            "kmer_js": kmer_js(ours, real, self.k),
            "content_distance": wasserstein(*content),
            "nearest": PerItem.mean(nearest),
            "copies": PerItem.mean((nearest < limit - 0.5 / codec.length).double()),
            "unique": len(ours.unique(dim=0)) / len(ours),
        }


class Config(metrics.Config):
    """Letters, runs, columns and pairs of columns beside held-out sequences; copies of training ones."""

    k: int = Field(3, ge=1, le=8)
    """Letters of a run (k-mer)."""
    letters: str = Field("CG", min_length=1)
    """The letters whose share of a sequence is its content, such as CG of DNA."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if not isinstance(codec, SequenceCodec):
            raise ValueError("reads sequences of one length; leave it out")
        if codec.length < self.k:
            raise ValueError(f"rows of {codec.length} have no {self.k}-mers; lower k")
        if foreign := set(self.letters) - set(codec.alphabet):
            raise ValueError(f"letters: no {sorted(foreign)[0]!r} here; change them")

    def build(self) -> Sequences:
        return Sequences(self.k, self.letters)
