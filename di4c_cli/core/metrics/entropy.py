"""Unigram entropy: low where a text model repeats itself."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from di4c_cli.core import metrics
from di4c_cli.core.codecs.characters import CharacterCodec
from di4c_cli.core.metrics import Direction, PerItem, Trial


def entropy_of_rows(rows: Int[Tensor, "N D"], kept: Bool[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """Of the kept states of each row, nats; counted sparsely, as a vocabulary may be large."""
    N, S = len(rows), int(rows.max()) + 1
    keys, counts = (rows + torch.arange(N)[:, None] * S)[kept].unique(return_counts=True)
    row = keys // S
    share = counts.double() / row.bincount(counts, minlength=N)[row]
    return row.bincount(torch.special.entr(share), minlength=N)


class Entropy:
    """`entropy` of the pooled states of all samples, nats; padding of fixed-length strings is left out.

    `sample_entropy`: of the states of one sample, the mean over samples. It falls where texts stutter; the
    pooled one falls where they are alike.
    """

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"entropy": "report", "sample_entropy": "report"}

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        samples = trial.samples.cpu()
        kept = torch.ones_like(samples, dtype=torch.bool)
        if isinstance(trial.codec, CharacterCodec):
            kept = samples != trial.codec.padding_id
        counts = samples[kept].bincount().double()
        return {
            "entropy": torch.special.entr(counts / counts.sum().clamp(min=1)).sum().item(),
            "sample_entropy": PerItem.mean(entropy_of_rows(samples, kept)),
        }


class Config(metrics.Config):
    """Unigram entropy of the samples."""

    def build(self) -> Entropy:
        return Entropy()
