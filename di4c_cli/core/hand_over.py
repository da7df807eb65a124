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
from di4c_cli.core.component import Distinct


class Config(_Config):
    """How it is found out, at the end of a distillation, who makes each call."""

    steps: Annotated[list[Annotated[int, Field(ge=1)]], Distinct] = Field(
        [1, 2, 4, 8, 16, 32], min_length=1, max_length=64
    )
    """Numbers of steps K that are looked at; any other K goes by the nearest of them."""
    num: int = Field(400, ge=2)
    """Held-out items."""
    num_latents: int = Field(64, ge=1)
    """Draws of lambda for each item and call: with few of them the student looks worse than it is."""
    batch: int = Field(50, ge=1)
    """Items at a time."""


ERRORS = 2.0
"""How many standard errors behind its teacher a student must be."""


class HandedOver(_Config):
    """The calls of a run of so many steps that are the teacher's: none, where the student keeps up."""

    steps: int = Field(ge=1)
    """K, the number of calls."""
    calls: list[Annotated[int, Field(ge=0)]]
    """The teacher's, counted from 0 (t = 1)."""


def behind(student: Float[Tensor, "N K"], teacher: Float[Tensor, "N K"], errors: float = ERRORS) -> list[int]:
    """The calls, one after the other, in which the student loses most to its teacher, if beyond chance.

    A loss is spread over neighbouring calls, each of which alone would drown in the noise: it is sought as
    the span of the largest sum. Of many spans the worst is beyond two standard errors by chance in more than
    2 % of cases: in 31 % of them for K = 32. That is as wanted: calls that are handed over for nothing cost
    nothing on average, and those that are not, though the student is behind, do.

    Args:
        student: nats of each point and call; `teacher` those of the same points on the same paths.
        errors: standard errors of the mean loss that it must exceed.
    """
    worse = (student - teacher).double()
    N, K = worse.shape
    if N < 2:
        return []
    reached = torch.cat([worse.new_zeros(1), worse.mean(0).cumsum(0)])
    loss = reached[None, :] - reached[:, None]  # of the calls from i to j, without j
    loss = loss.masked_fill(torch.ones_like(loss).tril() > 0, -math.inf)
    begin, end = divmod(int(loss.argmax()), K + 1)
    lost = worse[:, begin:end].sum(1)
    found = lost.mean() > errors * lost.std() / math.sqrt(N)
    return list(range(begin, end)) if found else []


def handed_over(table: Sequence[HandedOver], steps: int) -> list[int]:
    """The teacher's calls of a run of K steps, by the entry whose number of steps is nearest in scale."""
    if not table:
        return []
    nearest = min(table, key=lambda entry: abs(math.log(entry.steps / steps)))
    mine = {call for call in nearest.calls if call < nearest.steps}
    return [call for call in range(steps) if call * nearest.steps // steps in mine]
