"""Words: whether samples are words of the training text, and how many different ones."""

from functools import lru_cache

import torch

from di4c_cli.core import metrics
from di4c_cli.core.codecs import Codec
from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.metrics import Direction, PerItem, Trial


@lru_cache(maxsize=2)
def vocabulary(dataset: Dataset, codec: Codec) -> frozenset[str]:
    """The distinct training strings."""
    return frozenset(codec.decode(spread(dataset.train, len(dataset.train)).x_0.unique(dim=0)))


class Words:
    """`valid`: the share of samples that are training words; `distinct`: the share left without repeats."""

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"valid": "higher", "distinct": "report"}

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        known = vocabulary(trial.dataset, trial.codec)
        words = trial.codec.decode(trial.samples.cpu())
        return {
            "valid": PerItem.mean(torch.tensor([word in known for word in words]).double()),
            "distinct": len(set(words)) / len(words),
        }


class Config(metrics.Config):
    """Share of valid and of distinct words."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if codec.modality != "text":
            raise ValueError("reads text; leave it out")

    def build(self) -> Words:
        return Words()
