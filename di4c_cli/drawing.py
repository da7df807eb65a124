"""Drawing samples from a plan, in batches; and on what condition."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from di4c_cli.core import ranks, samplers
from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.order import step_seed
from di4c_cli.errors import UsageError
from di4c_cli.recipe import Recipe
from di4c_cli.sources import House


def draw(
    house: House,
    plan: samplers.Plan,
    num: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    *,
    label: Int[Tensor, " {num}"] | None = None,
    known: Int[Tensor, " D"] | None = None,
    alive: Callable[[], None] = lambda: None,
) -> Int[Tensor, "{num} D"]:
    """`num` samples on the CPU, from one stream of a seed, the same for teacher and student.

    Args:
        alive: called time and again.
        label: their classes, where the models are told.
        known: states that every sample begins with; -1 where a position is free.
    """
    generator = torch.Generator(device).manual_seed(seed)
    batches = []
    for start in range(0, num, batch_size):
        size = min(batch_size, num - start)
        tokens = samplers.sample(
            house.sampler,
            plan,
            house.process,
            size,
            generator,
            device,
            config=house.recipe.sampler,
            label=None if label is None else label[start : start + size].to(device),
            known=None if known is None else known.to(device),
            alive=alive,
        )
        batches.append(tokens.cpu())
    return torch.cat(batches)


def draw_shared(
    house: House,
    plan: samplers.Plan,
    num: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    *,
    label: Int[Tensor, " {num}"] | None = None,
    known: Int[Tensor, " D"] | None = None,
) -> Int[Tensor, "{num} D"]:
    """`num` samples on every rank, of which each has drawn some. For arguments see `draw`.

    Every batch but the first, which is `draw`'s, has a seed of its own: it matters not who draws it.
    """
    drawn = {}
    for number, start in enumerate(range(0, num, batch_size)):
        if number % ranks.size() == ranks.rank():
            rows = slice(start, min(start + batch_size, num))
            size = rows.stop - start
            own = step_seed(seed, number) if number else seed
            labels = None if label is None else label[rows]
            drawn[number] = draw(house, plan, size, size, own, device, label=labels, known=known)
    batches = {number: tokens for found in ranks.gathered(drawn) for number, tokens in found.items()}
    return torch.cat([batches[number] for number in sorted(batches)])


def every_class(recipe: Recipe, num: int) -> Int[Tensor, " {num}"] | None:
    """Labels 0, 1, 2, ... round and round; None where models are told none."""
    return torch.arange(num) % recipe.classes if recipe.classes else None


@dataclass(frozen=True)
class Conditions:
    """What samples are asked to be."""

    recipe: Recipe
    label: int | None
    """One class for all; unset: every class in turn."""
    known: Int[Tensor, " D"] | None
    """States that they begin with; -1 where a position is free."""

    @classmethod
    def of(
        cls,
        house: House,
        name: str,
        *,
        label: int | None,
        guidance: float | None,
        prefix: str | None,
    ) -> "Conditions":
        """Raises UsageError for a condition that this model knows nothing of."""
        classes = house.recipe.classes
        for option, value in (("--label", label), ("--guidance", guidance)):
            if value is not None and not classes:
                raise UsageError(f"{option} {value}: {name} is not told classes", f"leave {option} out")
        if label is not None and label >= classes:
            raise UsageError(f"--label {label}: {name} has the classes 0 to {classes - 1}")
        if guidance is not None and guidance < 0:
            raise UsageError(f"--guidance {guidance}: below 0", "0 is no guidance")
        return cls(house.recipe, label, None if prefix is None else prefix_states(house, name, prefix))

    def labels(self, num: int) -> Int[Tensor, " {num}"] | None:
        return every_class(self.recipe, num) if self.label is None else torch.full((num,), self.label)


def prefix_states(house: House, name: str, prefix: str) -> Int[Tensor, " D"]:
    """The states of a text that samples begin with, -1 behind it.

    Raises:
        UsageError: not a model of text, no mask to leave the rest open, or a text that does not fit.
    """
    codec, space = house.codec, house.process.space
    if not isinstance(codec, TextCodec) or space.mask_id is None:
        raise UsageError(f"--prefix {prefix}: {name} is not a masked model of text", "leave --prefix out")
    try:
        states = codec.tokenize(prefix)
    except ValueError as error:
        raise UsageError(f"--prefix {prefix}: {error}") from None
    if len(states) >= space.num_dims:
        raise UsageError(
            f"--prefix {prefix}: {len(states)} tokens, a sample has {space.num_dims}", "shorten it"
        )
    known = torch.full((space.num_dims,), -1)
    known[: len(states)] = states
    return known
