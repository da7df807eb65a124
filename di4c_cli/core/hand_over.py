"""Who makes each call of a sampling run: the student, or its teacher where the student fell behind.

The bound on the held-out NLL is a sum over calls, along paths that no model has a say in
(`metrics/nll_bound`), so that each call has a price of its own with either model in it.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core.component import Config as _Config


class Config(_Config):
    """How it is found out, at the end of a distillation, who makes each call."""

    steps: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 4, 8, 16, 32], min_length=1, max_length=64)
    """Numbers of steps K that are looked at; any other K goes by the nearest of them."""
    num: int = Field(400, ge=2)
    """Held-out items."""
    num_latents: int = Field(64, ge=1)
    """Draws of lambda for each item and call: with few of them the student looks worse than it is."""
    batch: int = Field(50, ge=1)
    """Items at a time."""


LEVEL = 0.023
"""How often a student that is no worse may lose calls to its teacher: beyond two standard errors."""
FLIPS = 400
"""Random changes of sign, by which it is told what chance alone makes of the worst of all spans."""


class HandedOver(_Config):
    """The calls of a run of so many steps that are the teacher's: none, where the student keeps up."""

    steps: int = Field(ge=1)
    """K, the number of calls."""
    calls: list[Annotated[int, Field(ge=0)]]
    """The teacher's, counted from 0 (t = 1)."""


def behind(student: Float[Tensor, "N K"], teacher: Float[Tensor, "N K"]) -> list[int]:
    """The calls, one after the other, in which the student loses most to its teacher, if beyond chance.

    A loss is spread over neighbouring calls, each of which alone would drown in the noise: it is sought as
    the span of the largest sum. There are K (K + 1) / 2 spans, and the worst of many looks bad by chance: it
    counts where it exceeds what the worst is when the points' differences from their mean change signs at
    random, in all but `LEVEL` of the cases.

    Args:
        student: nats of each point and call; `teacher` those of the same points on the same paths.
    """
    worse = (student - teacher).double()
    N = len(worse)
    if N < 2:
        return []
    mean = worse.mean(0, keepdim=True)
    signs = torch.randint(2, (FLIPS, N), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    by_chance = _losses(signs @ (worse - mean) / N).amax(1)
    loss, end = (part.item() for part in _losses(mean)[0].max(0))
    if loss <= by_chance.quantile(1 - LEVEL):
        return []
    reached = mean[0].cumsum(0)[: int(end)]
    begin = int(reached.argmin()) + 1 if len(reached) and reached.min() < 0 else 0
    return list(range(begin, int(end) + 1))


def _losses(mean: Float[Tensor, "R K"]) -> Float[Tensor, "R K"]:
    """The largest sum of a span that ends with each call."""
    reached = torch.nn.functional.pad(mean.cumsum(1), (1, 0))
    return reached[:, 1:] - reached.cummin(1).values[:, :-1]


def handed_over(table: Sequence[HandedOver], steps: int) -> list[int]:
    """The teacher's calls of a run of K steps, by the entry whose number of steps is nearest in scale."""
    if not table:
        return []
    nearest = min(table, key=lambda entry: abs(math.log(entry.steps / steps)))
    mine = {call for call in nearest.calls if call < nearest.steps}
    return [call for call in range(steps) if call * nearest.steps // steps in mine]
