"""Metrics: what `di4c eval` measures of a model at one number of steps and one seed.

A file `<kind>.py` holds `Config(metrics.Config)` with `build() -> Metric`. A metric reads what it needs from
a Trial and returns named figures. The floor of real data is the same metric on a Trial of held-out data.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.codecs import Codec
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.samplers import Plan

Direction = Literal["lower", "higher", "report"]


@dataclass(frozen=True)
class Trial:
    """One model, one number of steps, one seed."""

    samples: Int[Tensor, "N D"]
    """Generated tokens; for the floor, held-out data."""
    codec: Codec
    dataset: Dataset
    process: ForwardProcess
    plan: Plan | None
    """The calls that made the samples; None for real data."""
    seed: int
    cache: Path
    """A folder for what is costly and reusable (evaluation classifiers)."""
    device: torch.device | str = "cpu"
    """Where the plan's models are; samples are on the CPU."""
    label: Int[Tensor, " N"] | None = None
    """The classes asked for, where the models are told; for the floor, those of the data."""

    @property
    def known(self) -> Plan | None:
        """The plan, if the laws of its calls can be read."""
        return self.plan if self.plan is not None and known(self.plan) else None


def known(plan: Plan) -> bool:
    """Whether the laws of all its calls can be read, and not only drawn from."""
    return all(getattr(call.denoiser, "law_known", True) for call in plan)


@dataclass(frozen=True)
class PerItem:
    """A figure that is a ratio of sums over items, such as a mean: what intervals can be drawn from.

    Items are samples, or held-out data, which are the same for every model.
    """

    total: Float[Tensor, " N"]
    count: Float[Tensor, " N"]
    """What is divided by: 1 for each item, if the figure is a mean over items."""
    exponential: bool = False
    """Whether the figure is exp(ratio), as a perplexity is of nats per token."""
    held_out: bool = False
    """Whether items are held-out data: models are then compared item by item."""

    @classmethod
    def mean(cls, values: Float[Tensor, " N"], *, held_out: bool = False) -> "PerItem":
        return cls(values, torch.ones_like(values), held_out=held_out)

    @property
    def figure(self) -> float:
        """0 where nothing was counted."""
        ratio = self.total.double().sum().item() / (self.count.double().sum().item() or 1.0)
        return math.exp(ratio) if self.exponential else ratio


def plain(values: Mapping[str, float | PerItem]) -> dict[str, float]:
    """Figures without their items."""
    return {name: value.figure if isinstance(value, PerItem) else value for name, value in values.items()}


@runtime_checkable
class Metric(Protocol):
    directions: dict[str, Direction]
    """Every figure it may return, and which way is better."""

    def __call__(self, trial: Trial) -> "dict[str, float] | dict[str, float | PerItem]": ...


@runtime_checkable
class Judged(Protocol):
    """A metric whose figures are the opinion of a trained model."""

    def judge(self, trial: Trial) -> str:
        """Who judges, in one line: kind, size, precision, hash. Figures of two judges do not compare."""


class Config(_Config, ABC):
    """What every metric is told: nothing yet."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        """Called before anything is trained.

        Raises:
            ValueError: it cannot measure such samples, or lacks a package or something of the data.
        """

    @abstractmethod
    def build(self) -> Metric:
        """The component that this section describes."""


def fitting(
    sections: Sequence[Any], codec: Codec, dataset: Dataset, names: Sequence[str] | None = None
) -> list[Metric]:
    """The metrics of a recipe that give at least one of the figures asked for (all, without `names`).

    Raises:
        ValueError: one of them does not fit the data, or gives a figure that another gives too.
    """
    found: list[Metric] = []
    given: dict[str, str] = {}
    for number, section in enumerate(sections):
        metric, place = section.build(), f"{number} ({section.kind})"
        if names is not None and not metric.directions.keys() & set(names):
            continue
        try:
            section.check(codec, dataset)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        for name in metric.directions:
            if name in given:
                raise ValueError(f"{place} gives {name}, and so does {given[name]}; leave one of them out")
            given[name] = place
        found.append(metric)
    return found
