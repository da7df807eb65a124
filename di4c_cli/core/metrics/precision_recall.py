"""Precision and recall by nearest neighbours (Kynkaanniemi et al., arXiv 1904.06991)."""

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core.datasets import spread_index
from di4c_cli.core.metrics import Direction, Trial, _features
from di4c_cli.core.metrics._features import evaluator


def covered(
    points: Float[Tensor, "N features"], support: Float[Tensor, "M features"], k: int
) -> Bool[Tensor, " N"]:
    """Whether a point lies in the ball of any support point that reaches to its k-th nearest fellow."""
    radius = torch.cdist(support, support).fill_diagonal_(torch.inf).kthvalue(k, dim=1).values
    return (torch.cdist(points, support) <= radius).any(1)


class PrecisionRecall:
    """`precision`: samples within reach of training items; `recall`: training items within reach of samples.

    Both sets have the same size, at most that of the held-out split: reach shrinks with size, and so the
    floor (held-out items as samples) stays comparable. Items are spread evenly over their set, which may
    be in the order of classes.
    """

    def __init__(self, k: int, num: int) -> None:
        self.directions: dict[str, Direction] = {"precision": "higher", "recall": "higher"}
        self.k = k
        self.num = num

    def __call__(self, trial: Trial) -> dict[str, float]:
        space = evaluator(trial.dataset, trial.codec, trial.cache)
        real = space.train_features
        size = min(self.num, len(real), len(trial.samples), len(trial.dataset.test))
        if size <= self.k:
            return {}
        real = real[spread_index(len(real), size)]
        fake = space.features(trial.samples[spread_index(len(trial.samples), size)])
        return {
            "precision": covered(fake, real, self.k).double().mean().item(),
            "recall": covered(real, fake, self.k).double().mean().item(),
        }


class Config(_features.Config):
    """Precision and recall against items spread over the training split."""

    k: int = Field(3, ge=1)
    """Which neighbour a ball reaches to."""
    num: int = Field(2000, ge=10)
    """Items of each set, at most."""

    def build(self) -> PrecisionRecall:
        return PrecisionRecall(self.k, self.num)
