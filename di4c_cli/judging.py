"""What an evaluation compares, and by which metrics."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.hand_over import handed_over
from di4c_cli.core.metrics import Direction, Judged, Metric, PerItem, Trial, fitting, plain
from di4c_cli.core.samplers import Final, Plan, network_calls
from di4c_cli.core.tempering import at_temperature
from di4c_cli.drawing import every_class
from di4c_cli.errors import CheckpointError, UsageError
from di4c_cli.recipe import Recipe
from di4c_cli.runs import RunDirectory, runs_root
from di4c_cli.sources import House, Models, built, plan_of


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
    ) -> dict[str, float | PerItem]:
        """All kept figures of samples, of the classes asked for, and of the plan that made them."""
        trial = self._trial(samples, plan, seed, label)
        values = {name: value for metric in self.metrics for name, value in metric(trial).items()}
        return {name: value for name, value in values.items() if name in self.directions}

    def _trial(
        self, samples: Int[Tensor, "N D"], plan: Plan | None, seed: int, label: Int[Tensor, " N"] | None
    ) -> Trial:
        house = self.house
        return Trial(
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

    def floor(self, num: int) -> dict[str, float]:
        """The same figures of held-out data in place of samples."""
        held_out = spread(self.data.test, num)
        return plain(self.measure(held_out.x_0, None, 0, held_out.label))

    def judges(self) -> dict[str, str]:
        """By whose opinion, for the first figure of each metric that is one."""
        held_out = spread(self.data.test, 1)
        trial = self._trial(held_out.x_0, None, 0, held_out.label)
        judged = [metric for metric in self.metrics if isinstance(metric, Judged)]
        return {next(iter(metric.directions)): metric.judge(trial) for metric in judged}


def judge_of(
    house: House, place: object, names: list[str] | None, device: torch.device, data: Dataset
) -> Judge:
    """A judge by the recipe's metrics that give at least one of the figures asked for.

    Args:
        place: where the recipe stands, for complaints.

    Raises:
        UsageError: a figure that none of them gives.
        RecipeError: a metric does not fit the data.
    """
    sections = house.recipe.metrics
    known = {name for section in sections for name in section.build().directions}
    for name in names or []:
        if name not in known:
            raise UsageError(f"--metrics {name}: not in this recipe", f"it gives {', '.join(sorted(known))}")
    metrics = built(place, "metrics", lambda: fitting(sections, house.codec, data, names))
    return Judge(house, data, metrics, names, device)


@dataclass(frozen=True)
class Settings:
    """All ways in which samples are asked for."""

    guidance: list[float]
    temperatures: list[float]
    finals: list[Final]

    def __iter__(self) -> Iterator[tuple[float, float, Final]]:
        return itertools.product(self.guidance, self.temperatures, self.finals)


@dataclass(frozen=True)
class Planned:
    """One row of an evaluation."""

    house: House
    """With the sampler of this row."""
    model: str
    steps: int
    guidance: float
    temperature: float
    precision: str
    """What networks run in; draws are in float64, whatever that is."""
    seed: int
    plan: Plan
    by_teacher: int = 0
    """Calls that a student hands over."""

    def told(self, num: int) -> dict[str, Any]:
        """The row of `num` samples, but for its figures."""
        row = {"model": self.model, "steps": self.steps, "nfe": network_calls(self.plan)}
        row |= {"guidance": self.guidance} if self.house.recipe.classes else {}
        row |= {"by_teacher": self.by_teacher} if self.by_teacher else {}
        row |= {"temperature": self.temperature, "final": self.house.recipe.sampler.final}
        return row | {"precision": self.precision, "num": num, "seed": self.seed}


def planned(
    house: House,
    loaded: Models,
    names: list[str] | None,
    steps: list[int],
    settings: Settings,
    seeds: list[int],
) -> list[Planned]:
    """Everything an evaluation draws; a hybrid takes at least two steps.

    Raises:
        UsageError: guidance for models that are told no classes.
    """
    recipe = house.recipe
    if any(settings.guidance) and not recipe.classes:
        raise UsageError("--guidance: these models are told no classes", "leave it out")
    share = recipe.eval.hybrid_teacher_steps
    rows = []
    for model in wanted_models(recipe, loaded, names):
        for k, (scale, temperature, final) in itertools.product(steps, settings):
            if model == "hybrid" and k == 1:
                continue
            by_teacher = min(k - 1, max(1, round(share * k))) if model == "hybrid" else 0
            plan = at_temperature(plan_of(recipe, loaded, k, model, by_teacher, scale), temperature)
            where = ending(house, final)
            handed = len(handed_over(recipe.sampler.by_teacher, k)) if model == "student" else 0
            one = Planned(where, model, k, scale, temperature, loaded.dtype, seeds[0], plan, handed)
            rows += [replace(one, seed=seed) for seed in seeds]
    return rows


def ending(house: House, final: Final) -> House:
    """The house with another last call of its sampler."""
    sampler = house.recipe.sampler.model_copy(update={"final": final})
    return replace(house, recipe=house.recipe.model_copy(update={"sampler": sampler}))


def refuse_mixed(rows: list[Planned]) -> None:
    """Float32 and half precision, or drawn and most probable last states, are no fair comparison.

    Raises:
        UsageError: rows that differ so.
    """
    finals = {row.house.recipe.sampler.final for row in rows}
    for option, found in (("--final", finals), ("--dtype", {row.precision for row in rows})):
        if len(found) > 1:
            raise UsageError(
                f"{option} {','.join(sorted(found))}: rows that differ in this do not compare",
                "keep one, or set them side by side all the same with --mixed",
            )


def wanted_models(recipe: Recipe, loaded: Models, names: list[str] | None) -> list[str]:
    """Exactly the models asked for, else those of the recipe that are at hand.

    Raises:
        UsageError: one that is unknown or not at hand.
        CheckpointError: nothing is left to evaluate.
    """
    here = {"teacher": loaded.teacher, "student": loaded.student, "hybrid": loaded.teacher and loaded.student}
    for name in names or recipe.eval.models:
        if name not in here:
            raise UsageError(f"--models {name}: unknown", f"one of {', '.join(here)}")
        if names and here[name] is None:
            raise UsageError(f"--models {name}: not at hand here", "evaluate a finished student run")
    found = [name for name in names or recipe.eval.models if here[name] is not None]
    if not found:
        lost = "its checkpoint was moved or removed; --models says what to evaluate instead"
        raise CheckpointError(f"eval.models: {', '.join(recipe.eval.models)}: not at hand", lost)
    return found


def report_folder(checkpoint: Path | None, name: str) -> Path:
    """Beside a run's checkpoint, else (shipped or exact teachers) below the root of runs."""
    if checkpoint is not None and RunDirectory.is_run(checkpoint.parent):
        return checkpoint.parent / "eval"
    return runs_root() / name / "eval"
