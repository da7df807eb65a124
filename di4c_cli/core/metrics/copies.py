"""Copies: samples suspiciously close to a training image."""

from functools import lru_cache

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core import metrics
from di4c_cli.core.codecs import Codec
from di4c_cli.core.datasets import Dataset, spread, spread_index
from di4c_cli.core.metrics import Direction, Trial

CHUNK = 250  # images compared at a time
ROUNDING = 1e-3  # of squared distances in float32; pixels of 16 levels or fewer differ by more


def nearest(points: Float[Tensor, "N D"], targets: Float[Tensor, "M D"]) -> Float[Tensor, " N"]:
    """Squared distance to the nearest target."""
    squares = targets.square().sum(1)
    return torch.cat(
        [(squares - 2 * chunk @ targets.T).amin(1) + chunk.square().sum(1) for chunk in points.split(CHUNK)]
    )


@lru_cache(maxsize=2)
def _scale(dataset: Dataset, codec: Codec, num: int) -> tuple[Float[Tensor, "M D"], float]:
    """The training images, and the 1st percentile of the held-out images' squared distances to them."""
    train = codec.decode(spread(dataset.train, len(dataset.train)).x_0).flatten(1)
    test = codec.decode(spread(dataset.test, num).x_0).flatten(1)
    return train, nearest(test, train).quantile(0.01, interpolation="lower").item()


class Copies:
    """`copies`: the share of samples nearer to a training image than 1 % of held-out images are (L2)."""

    def __init__(self, num: int) -> None:
        self.directions: dict[str, Direction] = {"copies": "lower"}
        self.num = num

    def __call__(self, trial: Trial) -> dict[str, float]:
        train, limit = _scale(trial.dataset, trial.codec, self.num)
        few = trial.samples[spread_index(len(trial.samples), self.num)]
        samples = trial.codec.decode(few.cpu()).flatten(1)
        return {"copies": (nearest(samples, train) < limit - ROUNDING).double().mean().item()}


class Config(metrics.Config):
    """Near copies of training images, all of which are searched."""

    num: int = Field(1000, ge=1)
    """Samples, and held-out images for the limit, looked at."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if codec.modality != "image":
            raise ValueError("compares images; leave it out")

    def build(self) -> Copies:
        return Copies(self.num)
