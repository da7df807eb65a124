"""What an evaluation compares, and by which metrics."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.metrics import Direction, Metric, PerItem, Trial
from di4c_cli.core.samplers import Plan
from di4c_cli.drawing import every_class
from di4c_cli.errors import UsageError
from di4c_cli.recipe import Recipe
from di4c_cli.runs import RunDirectory, runs_root
from di4c_cli.sources import House, Models, plan_of


@dataclass(frozen=True)
class Judge:
    """The metrics of an evaluation, and the data they compare with."""

    house: House
    data: Dataset
    metrics: list[Metric]
    names: list[str] | None
    """The figures to keep; None for all."""
    device: torch.device
    """Where the models are."""

    @property
    def directions(self) -> dict[str, Direction]:
        """The figures that are kept, and which way is better."""
        every = {name: way for metric in self.metrics for name, way in metric.directions.items()}
        return {name: way for name, way in every.items() if self.names is None or name in self.names}

    def labels(self, num: int) -> Int[Tensor, " {num}"] | None:
        """Classes to sample: those of held-out items, spread evenly; None where models are told none."""
        if not self.house.recipe.classes:
            return None
        label = spread(self.data.test, num).label
        return every_class(self.house.recipe, num) if label is None or len(label) < num else label

    def measure(
        self,
        samples: Int[Tensor, "N D"],
        plan: Plan | None,
        seed: int,
        label: Int[Tensor, " N"] | None = None,
    ) -> dict[str, float]:
        """All kept figures of samples, of the classes asked for, and of the plan that made them."""
        house = self.house
        trial = Trial(
            samples=samples,
            label=label,
            codec=house.codec,
            dataset=self.data,
            process=house.process,
            plan=plan,
            seed=seed,
            cache=runs_root() / ".cache",
            device=self.device,
        )
        values = {name: value for metric in self.metrics for name, value in metric(trial).items()}
        return {
            name: value.figure if isinstance(value, PerItem) else value
            for name, value in values.items()
            if name in self.directions
        }

    def floor(self, num: int) -> dict[str, float]:
        """The same figures of held-out data in place of samples."""
        held_out = spread(self.data.test, num)
        return self.measure(held_out.x_0, None, 0, held_out.label)


def chosen_metrics(recipe: Recipe, names: list[str] | None) -> list[Metric]:
    """The recipe's metrics that give at least one of the figures asked for.

    Raises:
        UsageError: a figure that none of them gives.
    """
    built = [section.build() for section in recipe.metrics]
    known = {name for metric in built for name in metric.directions}
    for name in names or []:
        if name not in known:
            raise UsageError(f"--metrics {name}: not in this recipe", f"it gives {', '.join(sorted(known))}")
    return [metric for metric in built if names is None or metric.directions.keys() & set(names)]


@dataclass(frozen=True)
class Planned:
    """One line of an evaluation."""

    model: str
    steps: int
    guidance: float
    seed: int
    plan: Plan


def planned(
    recipe: Recipe,
    loaded: Models,
    names: list[str] | None,
    steps: list[int],
    guidance: list[float],
    seeds: list[int],
) -> list[Planned]:
    """Everything an evaluation draws; a hybrid takes at least two steps.

    Raises:
        UsageError: guidance for models that are told no classes.
    """
    if any(guidance) and not recipe.classes:
        raise UsageError("--guidance: these models are told no classes", "leave it out")
    share = recipe.eval.hybrid_teacher_steps
    trials = []
    for model in wanted_models(recipe, loaded, names):
        for k, scale in itertools.product(steps, guidance):
            if model == "hybrid" and k == 1:
                continue
            by_teacher = min(k - 1, max(1, round(share * k))) if model == "hybrid" else 0
            plan = plan_of(recipe, loaded, k, model, by_teacher, scale)
            trials += [Planned(model, k, scale, seed, plan) for seed in seeds]
    return trials


def wanted_models(recipe: Recipe, loaded: Models, names: list[str] | None) -> list[str]:
    """Exactly the models asked for, else those of the recipe that are at hand.

    Raises:
        UsageError: one that is unknown or not at hand.
    """
    here = {"teacher": loaded.teacher, "student": loaded.student, "hybrid": loaded.teacher and loaded.student}
    for name in names or recipe.eval.models:
        if name not in here:
            raise UsageError(f"--models {name}: unknown", f"one of {', '.join(here)}")
        if names and here[name] is None:
            raise UsageError(f"--models {name}: not at hand here", "evaluate a finished student run")
    return [name for name in names or recipe.eval.models if here[name] is not None]


def report_folder(checkpoint: Path | None, name: str) -> Path:
    """Beside a run's checkpoint, else (shipped or exact teachers) below the root of runs."""
    if checkpoint is not None and RunDirectory.is_run(checkpoint.parent):
        return checkpoint.parent / "eval"
    return runs_root() / name / "eval"
