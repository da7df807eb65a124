"""Kernel inception distance (Binkowski et al., arXiv 1801.01401): an unbiased MMD of features."""

import warnings

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core._vision import import_torchvision
from di4c_cli.core.metrics import Direction, Trial, _features
from di4c_cli.core.metrics._features import PassThrough, evaluator


def kernel_distance(
    real: Float[Tensor, "N features"],
    fake: Float[Tensor, "M features"],
    *,
    subsets: int,
    subset_size: int,
    seed: int,
) -> float:
    """Mean over random subsets of the MMD^2 with the kernel (x.y / features + 1)^3; may fall below 0."""
    import_torchvision()
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
        torch.manual_seed(seed)  # torchmetrics draws its subsets from the global generator
        metric = KernelInceptionDistance(
            feature=PassThrough(real.shape[1]),
            subsets=subsets,
            subset_size=min(subset_size, len(real), len(fake)),
            sync_on_compute=False,  # each rank has figures of its own
        )
        metric.update(real.double(), real=True)
        metric.update(fake.double(), real=False)
        return metric.compute()[0].item()


class KernelDistance:
    """`kid` to the training items."""

    def __init__(self, subsets: int, subset_size: int) -> None:
        self.directions: dict[str, Direction] = {"kid": "lower"}
        self.subsets = subsets
        self.subset_size = subset_size

    def __call__(self, trial: Trial) -> dict[str, float]:
        space = evaluator(trial.dataset, trial.codec, trial.cache)
        value = kernel_distance(
            space.train_features,
            space.features(trial.samples),
            subsets=self.subsets,
            subset_size=self.subset_size,
            seed=trial.seed,
        )
        return {"kid": value}


class Config(_features.Config):
    """Kernel distance to the training split."""

    subsets: int = Field(50, ge=1)
    """Random subsets averaged over."""
    subset_size: int = Field(400, ge=2)
    """Items in a subset (fewer where there are fewer); does not bias the figure."""

    def build(self) -> KernelDistance:
        return KernelDistance(self.subsets, self.subset_size)
