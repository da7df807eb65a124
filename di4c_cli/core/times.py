"""Draws of (t, s) for training: one parametric sampler for all three of the paper's systems."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import uniform

Length = Annotated[float, Field(gt=0)]
SMALLEST = 1e-6  # t = 0 exactly carries nothing to learn, and divides by zero in posteriors


class Config(_Config):
    """How training times are drawn."""

    t_min: float = Field(0.0, ge=0, lt=1)
    """Smallest t (tauLDR: 0.01)."""
    s_min: float | None = Field(None, ge=0, lt=1)
    """Smallest s: t is drawn from [s_min + step, 1] (the paper's pixels: 0.01); unset: s stops at 0."""
    step: Length | tuple[Length, Length] = 0.05
    """Length of the teacher's step t - s: a number, or the bounds of a log-uniform draw."""
    step_share: float = Field(1.0, gt=0, le=1)
    """s >= (1 - step_share) t: 0.5 halves the step where t is small (the paper's text)."""
    doubling: int | None = Field(None, ge=1)
    """Training steps after which `step` doubles, again and again (SDTT's rounds: 10000); unset: never."""
    grid: int | None = Field(None, ge=1)
    """T of discrete time: t moves up to the next of 1/T, 2/T, ..., 1 (the paper's text: 1024)."""
    at_one: float = Field(0.0, ge=0, le=1)
    """Share of the batch with t = 1 exactly, where few-step samplers begin."""
    near_zero: float = Field(0.0, ge=0, le=1)
    """Share of the batch with t below `near_zero_below`, where distillation works; the rest is above it."""
    near_zero_below: float = Field(0.02, gt=0, le=1)
    """See `near_zero`."""
    parity: bool = False
    """With `grid`: x_t is noised one grid step beyond t, as by the paper's text code (a defect)."""

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.near_zero + self.at_one > 1:
            raise ValueError("near_zero and at_one are shares of one batch: together at most 1")
        if self.near_zero and self.near_zero_below <= self.t_min:
            raise ValueError("near_zero_below must lie above t_min")
        if self.near_zero and self.s_min is not None:
            raise ValueError("near_zero and s_min both say where t begins: leave one of them out")
        if self.parity and self.grid is None:
            raise ValueError("parity discretises time twice: it needs a grid")
        return self

    @property
    def ahead(self) -> float:
        """What is added to t before x_t is noised: nothing, but a grid step under `parity`."""
        return 1 / self.grid if self.parity and self.grid else 0.0

    def sample(
        self, n: int, generator: torch.Generator, device: torch.device | str, step: int = 0
    ) -> tuple[Float[Tensor, " {n}"], Float[Tensor, " {n}"]]:
        """n pairs (t, s) with s < t, stratified over the batch, in float64.

        Args:
            step: how many training steps are done.
        """
        order = torch.randperm(n, generator=generator, device=generator.device).to(device)
        u = (order + uniform(n, generator=generator, device=device)) / n
        which = uniform(n, generator=generator, device=device)
        low = self.t_min + (self.near_zero_below - self.t_min) * uniform(
            n, generator=generator, device=device
        )
        length = self._length(n, generator, device, step)
        begin = self._begin(length)
        t = begin + (1 - begin) * u
        t = torch.where(which < self.near_zero, low, t)
        t = torch.where(which >= 1 - self.at_one, torch.ones_like(t), t)
        t = t.clamp(min=SMALLEST)
        if self.grid is not None:
            t = ((torch.floor(t * self.grid) + 1) / self.grid).clamp(max=1)
        return t, (t - torch.minimum(length, self.step_share * t)).clamp(min=self.s_min or 0)

    def _length(
        self, n: int, generator: torch.Generator, device: torch.device | str, step: int
    ) -> Float[Tensor, " {n}"]:
        """Lengths of the teacher's steps."""
        doublings = 0 if self.doubling is None else min(step // self.doubling, 64)  # from there on s = 0
        if isinstance(self.step, tuple):
            low, high = self.step
            length = low * (high / low) ** uniform(n, generator=generator, device=device)
        else:
            length = torch.full((n,), self.step, dtype=torch.float64, device=device)
        return length * 2.0**doublings

    def _begin(self, length: Float[Tensor, " n"]) -> float | Float[Tensor, " n"]:
        """Where the uniform draw of t begins."""
        if self.s_min is not None:
            return (self.s_min + length).clamp(min=self.t_min, max=1)
        return self.near_zero_below if self.near_zero else self.t_min
