"""How a distillation step grows: its time with L, B and D, its extra memory with S.

A recipe's own sizes cannot be varied freely, so its process and losses stand on a synthetic state space here,
under networks that add little: for time an MLP, whose cost is linear in them; for memory a transformer, whose
weights hardly grow with S.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from di4c_cli.bench.memory import peak_of
from di4c_cli.bench.steps import Step, ours
from di4c_cli.bench.subject import Trial, random_points, typical_times
from di4c_cli.bench.timing import Call, in_turn, spread
from di4c_cli.core import networks
from di4c_cli.core.networks import dit, mlp
from di4c_cli.core.segment import Cast
from di4c_cli.core.space import StateSpace
from di4c_cli.core.teachers.network import untrained
from di4c_cli.recipe import Recipe

BASE = {"L": 16, "B": 16, "D": 64, "S": 64}
TIMED = {"L": (8, 16, 32, 64), "B": (8, 16, 32, 64), "D": (32, 64, 128, 256)}
STATES = (2048, 4096, 8192, 16384)
FEW_STATES = (64, 128, 256, 512)
"""For processes whose kernels are matrices of all pairs of states."""
ROUNDS = 7


def fits(recipe: Recipe, device: torch.device) -> list[dict[str, Any]]:
    """Straight lines through the figures of a few sizes each, the other sizes held."""
    parameterization, found = recipe.network.parameterization, []
    linear = mlp.Config(width=32, depth=2, time=True, parameterization=parameterization)
    for letter, sizes in TIMED.items():
        if letter == "L" and recipe.student.draws == 1:
            continue
        calls = {str(n): warm_step(recipe, linear, device, **{letter: n}) for n in sizes}
        times = in_turn(calls, device, ROUNDS)
        medians = [spread(taken)["median_ms"] for taken in times.values()]
        found.append(fitted("time", "ms", letter, sizes, medians))
    shared = dit.Config(width=16, depth=1, heads=1, parameterization=parameterization)
    states = STATES if recipe.process.kind == "masked" else FEW_STATES
    extra = [peak_of(warm_step(recipe, shared, device, S=S), device).rise for S in states]
    line = fitted("extra memory", "MiB", "S", states, extra)
    law = 4 * math.prod(BASE[letter] for letter in "LBD") / 2**20
    return [*found, line | {"law_slope": law}]


def fitted(what: str, unit: str, over: str, sizes: Sequence[int], values: Sequence[float]) -> dict[str, Any]:
    """a + b n by least squares, and the share R^2 of the variance that it explains."""
    b, a = np.polyfit(sizes, values, 1)
    left = np.asarray(values) - (a + b * np.asarray(sizes))
    r2 = 1 - left.var() / np.var(values) if np.var(values) else 1.0
    line = {"intercept": float(a), "slope": float(b), "r2": float(r2)}
    return {"what": what, "unit": unit, "over": over, "sizes": list(sizes), "values": list(values)} | line


def warm_step(
    recipe: Recipe,
    network: networks.Config,
    device: torch.device,
    **changed: int,
) -> Call:
    """A distillation step that has run once; `changed` are sizes other than the base's."""
    L, B, D, S = (changed.get(letter, size) for letter, size in BASE.items())
    process = recipe.process.build(StateSpace(shape=(D,), num_states=S))
    student = recipe.student.build(network, process).to(device)
    latents = L if recipe.student.draws > 1 else 1
    cast = Cast(
        process=process,
        student=student,
        num_latents=latents,
        teacher=untrained(network, process).to(device).eval().requires_grad_(False),
        teacher_sampler=recipe.teacher_sampler.build(process),
    )
    t, s = typical_times(recipe.times, B, device)
    trial = Trial.of(cast, recipe.losses, random_points(process, S, B, device), t, s)
    step = partial(Step(student, recipe.train), ours, trial)
    step()
    return step
