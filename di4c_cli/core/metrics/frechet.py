"""Frechet distance of Gaussian fits (Heusel et al., arXiv 1706.08500), in the evaluator's feature space."""

import torch
from jaxtyping import Float
from torch import Tensor

from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.datasets import spread_index
from di4c_cli.core.metrics import Direction, Trial, _features
from di4c_cli.core.metrics._features import PassThrough, evaluator
from di4c_cli.errors import RecipeError


def frechet_distance(real: Float[Tensor, "N features"], fake: Float[Tensor, "M features"]) -> float:
    """|mean difference|^2 + tr(A + B - 2 sqrt(AB)) of the two covariances, in float64."""
    import_torchvision()
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(
        feature=PassThrough(real.shape[1]),
        sync_on_compute=False,  # each rank has figures of its own
    ).set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    return metric.compute().item()


class Frechet:
    """`fd` to the training items, `fd_test` to the held-out ones.

    For the floor, held-out items stand for samples; against themselves they would give 0, so in `fd_test` as
    many training items, spread evenly, stand for samples.
    """

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"fd": "lower", "fd_test": "lower"}

    def __call__(self, trial: Trial) -> dict[str, float]:
        if len(trial.samples) < 2:
            raise RecipeError("eval.num: a Frechet distance needs at least 2 samples", "raise it, or --num")
        space = evaluator(trial.dataset, trial.codec, trial.cache)
        train, test = space.train_features, space.test_features
        fake = space.features(trial.samples)
        fake_for_test = train[spread_index(len(train), len(fake))] if trial.plan is None else fake
        return {"fd": frechet_distance(train, fake), "fd_test": frechet_distance(test, fake_for_test)}


class Config(_features.Config):
    """Frechet distance to the training and to the held-out split (at most 10,000 items of each)."""

    def build(self) -> Frechet:
        return Frechet()
