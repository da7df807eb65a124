"""Distillation near t = 0: every component is held to the teacher's product law (Di4C, L_distil)."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.readings import Among, ComponentsKL, Reading
from di4c_cli.core.segment import Segment
from di4c_cli.core.space import uniform


@dataclass(frozen=True)
class Distillation(losses.LawLoss):
    """mean_l sum_d KL(teacher^d || student^d(. ; lam_l)), the convexity bound of KL(teacher || mixture).

    On a share of the data points, weighed up so that the mean over the batch is estimated. With `at`, the
    term has its own times: a second segment over these data points. Its weight is still read at the batch's
    t, so it is meant to be constant.
    """

    at: tuple[float, float] | None
    share: float
    points: Literal["datum", "latent"]
    atom: float

    def readings(self, segment: Segment) -> list[Reading]:
        if self.at is not None:
            return []
        if self.share == 1:
            return [ComponentsKL(segment.teacher_t)]
        rows = torch.arange(self._taking_part(segment), device=segment.t.device)
        return [Among(rows, ComponentsKL(segment.restricted(rows).teacher_t))]

    def value(self, segment: Segment, *answers: Tensor) -> Float[Tensor, " B"]:
        B, rows = len(segment.batch), self._taking_part(segment)
        values = answers[0] if self.at is None else self._at_own_times(segment, rows, self.at)
        return torch.cat([values * (B / rows), values.new_zeros(B - rows)])

    def _taking_part(self, segment: Segment) -> int:
        return max(1, round(self.share * len(segment.batch)))

    def _at_own_times(self, segment: Segment, rows: int, at: tuple[float, float]) -> Float[Tensor, " rows"]:
        L = segment.cast.num_latents
        each = L if self.points == "latent" else 1
        device, generator = segment.t.device, segment.generator
        low, high = at
        t = low + (high - low) * uniform(rows * each, generator=generator, device=device)
        if self.atom:
            t = t.masked_fill(uniform(len(t), generator=generator, device=device) < self.atom, low)
        batch = segment.batch[torch.arange(rows, device=device).repeat_interleave(each)]
        cast = replace(segment.cast, num_latents=L // each)
        own = Segment(cast, batch, t, torch.zeros_like(t), generator)
        return own.student_t.components_kl(own.teacher_t).view(rows, each).mean(1)


class Config(losses.Config):
    """Distillation near t = 0."""

    at: tuple[float, float] | None = None
    """Own times, uniform between two bounds (the paper's pixels: [0.01, 0.02]); unset: the batch's own t."""
    share: float = Field(1.0, gt=0, le=1)
    """The share of the batch that takes part."""
    points: Literal["datum", "latent"] = "datum"
    """With `at`: one point x_t for all latents of a datum, or one for each (the paper's pixels)."""
    atom: float = Field(0.0, ge=0, le=1)
    """With `at`: the share of points at the lower bound exactly (the paper's pixels: 0.5)."""

    @model_validator(mode="after")
    def _own_times(self) -> "Config":
        if self.at is None and (self.points == "latent" or self.atom):
            raise ValueError("points and atom are about the term's own times: set `at`")
        return self

    def build(self) -> losses.Loss:
        return Distillation(self.at, self.share, self.points, self.atom)
