"""What an evaluation compares, and by which metrics."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.metrics import Direction, Metric, Trial
from di4c_cli.core.samplers import Plan
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

    def measure(self, samples: Int[Tensor, "N D"], plan: Plan | None, seed: int) -> dict[str, float]:
        """All kept figures of samples and of the plan that made them."""
        cache = runs_root() / ".cache"
        house = self.house
        trial = Trial(samples, house.codec, self.data, house.process, plan, seed, cache, self.device)
        values = {name: value for metric in self.metrics for name, value in metric(trial).items()}
        return {name: value for name, value in values.items() if name in self.directions}

    def floor(self, num: int) -> dict[str, float]:
        """The same figures of held-out data in place of samples."""
        return self.measure(spread(self.data.test, num).x_0, None, 0)


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


def planned(
    recipe: Recipe, loaded: Models, names: list[str] | None, steps: list[int], seeds: list[int]
) -> list[tuple[str, Plan, int]]:
    """Every (model, plan, seed) of an evaluation; a hybrid takes at least two steps."""
    share = recipe.eval.hybrid_teacher_steps
    trials = []
    for model in wanted_models(recipe, loaded, names):
        for k in steps:
            if model == "hybrid" and k == 1:
                continue
            by_teacher = min(k - 1, max(1, round(share * k))) if model == "hybrid" else 0
            plan = plan_of(recipe, loaded, k, model, by_teacher)
            trials += [(model, plan, seed) for seed in seeds]
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
