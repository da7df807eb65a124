"""Draws of (t, s) for training: one parametric sampler for all three of the paper's systems."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import uniform

Length = Annotated[float, Field(gt=0)]


class Config(_Config):
    """How training times are drawn."""

    t_min: float = Field(0.0, ge=0, lt=1)
    """Smallest t (tauLDR: 0.01)."""
    step: Length | tuple[Length, Length] = 0.05
    """Length of the teacher's step t - s: a number, or the bounds of a log-uniform draw."""
    step_share: float = Field(1.0, gt=0, le=1)
    """s >= (1 - step_share) t: 0.5 halves the step where t is small (SDTT)."""
    at_one: float = Field(0.0, ge=0, le=1)
    """Share of the batch with t = 1 exactly, where few-step samplers begin."""
    near_zero: float = Field(0.0, ge=0, le=1)
    """Share of the batch with t below `near_zero_below`, where the distillation term works."""
    near_zero_below: float = Field(0.02, gt=0, le=1)
    """See `near_zero`."""

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.near_zero + self.at_one > 1:
            raise ValueError("near_zero and at_one are shares of one batch: together at most 1")
        if self.near_zero and self.near_zero_below <= self.t_min:
            raise ValueError("near_zero_below must lie above t_min")
        return self

    def sample(
        self, n: int, generator: torch.Generator, device: torch.device | str, step: int = 0
    ) -> tuple[Float[Tensor, " {n}"], Float[Tensor, " {n}"]]:
        """n pairs (t, s) with s < t, stratified over the batch, in float64."""
        order = torch.randperm(n, generator=generator, device=generator.device).to(device)
        u = (order + uniform(n, generator=generator, device=device)) / n
        t = self.t_min + (1 - self.t_min) * u
        which = uniform(n, generator=generator, device=device)
        low = self.t_min + (self.near_zero_below - self.t_min) * uniform(
            n, generator=generator, device=device
        )
        t = torch.where(which < self.near_zero, low, t)
        t = torch.where(which >= 1 - self.at_one, torch.ones_like(t), t)
        t = t.clamp(min=1e-6)  # t = 0 exactly carries nothing to learn, and divides by zero in posteriors
        if isinstance(self.step, tuple):
            low_step, high_step = self.step
            step = low_step * (high_step / low_step) ** uniform(n, generator=generator, device=device)
        else:
            step = torch.full_like(t, self.step)
        return t, (t - torch.minimum(step, self.step_share * t)).clamp(min=0)
