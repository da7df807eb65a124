"""Toys: joint laws small enough to be written down as a table over S^D, so that everything is exact."""

import math
import random
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core import datasets
from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.states import StateCodec
from di4c_cli.core.datasets import Dataset, TensorSplit
from di4c_cli.core.datasets._codec import expect
from di4c_cli.core.space import sample_categorical
from di4c_cli.errors import RecipeError

LARGEST_TABLE = 100_000


def pairs(num_dims: int, num_states: int) -> Float[Tensor, "*states"]:
    """Positions 2i and 2i + 1 are equal and uniform, pairs independent; a last odd position is uniform."""
    table = torch.ones((), dtype=torch.float64)
    for _ in range(num_dims // 2):
        table = table[..., None, None] * torch.eye(num_states, dtype=torch.float64) / num_states
    if num_dims % 2:
        table = table[..., None].expand(*table.shape, num_states) / num_states
    return table


def parity(num_dims: int, num_states: int) -> Float[Tensor, "*states"]:
    """Uniform over the points whose states add up to 0 modulo S."""
    total = torch.zeros((), dtype=torch.int64)
    for _ in range(num_dims):
        total = total[..., None] + torch.arange(num_states)
    even = (total % num_states == 0).double()
    return even / even.sum()


def sparse(
    num_dims: int, num_states: int, atoms: int, sharpness: float, seed: int
) -> Float[Tensor, "*states"]:
    """A few random points with random weights."""
    rng = random.Random(seed)
    points = rng.sample(range(num_states**num_dims), atoms)
    table = torch.zeros(num_states**num_dims, dtype=torch.float64)
    table[points] = _weights(rng, atoms, sharpness)
    return table.view((num_states,) * num_dims)


def markov(num_dims: int, num_states: int, sharpness: float, seed: int) -> Float[Tensor, "*states"]:
    """A stationary Markov chain with one random transition table."""
    rng = random.Random(seed)
    transition = torch.stack([_weights(rng, num_states, sharpness) for _ in range(num_states)])
    table = torch.linalg.matrix_power(transition, 4096)[0]  # every row of a high power is the stationary law
    table = table / table.sum()
    for _ in range(num_dims - 1):
        table = table[..., None] * transition
    return table


def _weights(rng: random.Random, num: int, sharpness: float) -> Float[Tensor, " {num}"]:
    """Random weights of sum 1. Python guarantees random()'s stream: a seed means the same joint for ever."""
    weights = torch.tensor(
        [(-math.log(1 - rng.random())) ** sharpness for _ in range(num)], dtype=torch.float64
    )
    return weights / weights.sum()


class Config(datasets.Config):
    """An enumerable joint law over the codec's S^D."""

    joint: Literal["pairs", "parity", "sparse", "markov"] = "markov"
    """Equal pairs, sums that vanish modulo S, a few atoms, or a Markov chain."""
    atoms: int = Field(8, ge=1)
    """Points of positive probability (sparse)."""
    sharpness: float = Field(1.5, ge=0)
    """Inequality of random weights (sparse, markov): 0 for equal ones, 1 for a flat Dirichlet law."""
    seed: int = 5370
    """Which random joint (sparse, markov). The default chain is .7242 in total variation away from the
    product of its marginals at D = 5, S = 3, and .7773 at D = 6."""
    num: int = Field(20_000, ge=1)
    """Points drawn from the joint for each split."""

    def build(self, codec: Codec) -> Dataset:
        space = expect(codec, StateCodec, "states", "toy").space
        size = space.num_states**space.num_dims
        if size > LARGEST_TABLE:
            raise RecipeError(
                f"codec: a toy has at most {LARGEST_TABLE} points, this one {size}",
                "lower num_dims or num_states",
            )
        if self.joint == "sparse" and self.atoms > size:
            raise RecipeError(
                f"dataset.atoms: {self.atoms} is more than the {size} points there are", "lower it"
            )
        joint = self._table(space.num_dims, space.num_states)
        generator = torch.Generator().manual_seed(self.seed)
        flat = sample_categorical(joint.flatten().log(), generator, 2 * self.num)
        points = torch.stack(torch.unravel_index(flat, joint.shape), -1)
        return Dataset(
            train=TensorSplit(points[: self.num]), test=TensorSplit(points[self.num :]), joint=joint
        )

    def _table(self, num_dims: int, num_states: int) -> Float[Tensor, "*states"]:
        match self.joint:
            case "pairs":
                return pairs(num_dims, num_states)
            case "parity":
                return parity(num_dims, num_states)
            case "sparse":
                return sparse(num_dims, num_states, self.atoms, self.sharpness, self.seed)
            case "markov":
                return markov(num_dims, num_states, self.sharpness, self.seed)
