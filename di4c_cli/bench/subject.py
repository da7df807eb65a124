"""What is measured: a recipe's models with fresh weights, on random data points.

Neither weights nor data matter for speed, so no checkpoint is needed and no data set is made or fetched.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli import recipe_file
from di4c_cli.assembly import distillation_cast
from di4c_cli.core.denoiser import Denoiser, MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.losses import Loss
from di4c_cli.core.networks import half_precision, run_as
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.segment import Cast
from di4c_cli.core.space import Batch
from di4c_cli.core.teachers.network import untrained
from di4c_cli.core.times import Config as Times
from di4c_cli.drawing import every_class
from di4c_cli.recipe import Recipe
from di4c_cli.sources import House, Models, built

PROGRESS = 0.5  # of the training, for weights that change in its course
DRAWS = 65  # of t for each data point, so that the middle one stands for its share of the law


@dataclass(frozen=True)
class Term:
    """A loss, and where it has weight in a batch."""

    section: Any
    """Of the recipe's `[[losses]]`."""
    loss: Loss
    w: Float[Tensor, " B"]
    rows: Int[Tensor, " b"]


@dataclass(frozen=True)
class Trial:
    """A batch at its times, and who plays: all that a distillation step starts from."""

    cast: Cast
    terms: list[Term]
    batch: Batch
    t: Float[Tensor, " B"]
    s: Float[Tensor, " B"]

    @classmethod
    def of(
        cls, cast: Cast, sections: list[Any], batch: Batch, t: Float[Tensor, " B"], s: Float[Tensor, " B"]
    ) -> "Trial":
        """With those of the recipe's `[[losses]]` that have weight at t."""
        weighed = [(section, section.weight.at(t, PROGRESS)) for section in sections]
        terms = [
            Term(section, section.build(), w, w.nonzero().squeeze(1)) for section, w in weighed if w.any()
        ]
        return cls(cast, terms, batch, t, s)

    @property
    def device(self) -> torch.device:
        return self.t.device

    def generator(self) -> torch.Generator:
        """A fresh stream of draws, the same at every call."""
        return torch.Generator(self.device).manual_seed(0)


@dataclass(frozen=True)
class Subject:
    """A recipe's models on a device, and trials of them at any batch size."""

    recipe: Recipe
    house: House
    cast: Cast
    student: nn.Module
    sampled: Models
    """Teacher and student as sampling calls them."""
    device: torch.device

    @classmethod
    def build(cls, loaded: recipe_file.LoadedRecipe, device: torch.device) -> "Subject":
        """Raises RecipeError for pieces that do not fit together."""
        recipe, place = loaded.recipe, loaded.path
        house = House.build(recipe, place)
        process = house.process
        torch.manual_seed(0)
        teacher = built(place, "teacher", lambda: _fresh_teacher(house))
        student = built(place, "student", lambda: recipe.student.build(recipe.network, process))
        if isinstance(teacher, nn.Module):
            teacher.to(device).eval().requires_grad_(False)
        sampled = Models(
            for_sampling(teacher, recipe, device), for_sampling(student.to(device), recipe, device)
        )
        for model in (teacher, student):
            run_as(
                model,
                rows_at_once=recipe.train.rows_at_once,
                autocast=half_precision(recipe.train.precision, device),
                compiled=recipe.train.compile,
            )
        cast = distillation_cast(loaded, process, student, teacher)
        return cls(recipe, house, cast, student, sampled, device)

    def trial(self, size: int) -> Trial:
        """`size` random data points at typical times."""
        states = self.house.codec.space.num_states
        batch = random_points(self.house.process, states, size, self.device)
        label = every_class(self.recipe, size)
        batch = Batch(batch.x_0, None if label is None else label.to(self.device))
        t, s = typical_times(self.recipe.times, size, self.device)
        return Trial.of(self.cast, self.recipe.losses, batch, t, s)


def for_sampling(model: Denoiser, recipe: Recipe, device: torch.device) -> Denoiser:
    """The same weights, run as in sampling: compiled or not by the sampler's word, in one group of rows."""
    if not isinstance(model, NetworkDenoiser | MixtureDenoiser):
        return model
    network = copy(model.network)
    network.autocast = half_precision(recipe.train.precision, device)
    if recipe.sampler.compile:
        network.compile_body(sampling=True)
    return type(model)(network, model.parameterization)


def _fresh_teacher(house: House) -> Denoiser:
    """Only a teacher that is no network is computed from the data set."""
    recipe, process = house.recipe, house.process
    if not recipe.teacher.trained:
        return recipe.teacher.build(process, recipe.network, house.dataset(), None)
    if recipe.teacher.mixture:
        return recipe.teacher.student.build(recipe.network, process)
    return untrained(recipe.network, process)


def random_points(process: ForwardProcess, num_states: int, size: int, device: torch.device) -> Batch:
    """`size` points of the data's states, which are the first `num_states` of the process."""
    x_0 = torch.randint(
        num_states, (size, process.space.num_dims), generator=torch.Generator().manual_seed(0)
    )
    return Batch(x_0.to(device))


def typical_times(
    times: Times, size: int, device: torch.device
) -> tuple[Float[Tensor, " {size}"], Float[Tensor, " {size}"]]:
    """(t, s) in the middle of each of `size` equal shares of the law of t, from the smallest t on.

    So losses that have weight at some t only take part as often as in training, and every run measures the
    same times.
    """
    t, s = times.sample(size * DRAWS, torch.Generator(device).manual_seed(0), device)
    middle = t.argsort()[DRAWS // 2 :: DRAWS]
    return t[middle], s[middle]
