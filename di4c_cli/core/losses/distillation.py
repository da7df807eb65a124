"""Distillation near t = 0: every component is held to the teacher's product law (Di4C, L_distil)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.segment import Segment
from di4c_cli.core.space import Batch, uniform


@dataclass(frozen=True)
class Distillation:
    """mean_l sum_d KL(teacher^d || student^d(. ; lam_l)), the convexity bound of KL(teacher || mixture).

    With `at`, the term has its own times: a second segment over (a share of) the same batch. Its weight is
    still read at the batch's t, so it is meant to be constant.
    """

    at: tuple[float, float] | None
    share: float

    def __call__(self, segment: Segment) -> Float[Tensor, " B"]:
        if self.at is None:
            return segment.student_t.components_kl(segment.teacher_t.log_p)
        B = len(segment.batch)
        rows = max(1, round(self.share * B))
        low, high = self.at
        device = segment.t.device
        t = low + (high - low) * uniform(rows, generator=segment.generator, device=device)
        x_0, label = segment.batch.x_0[:rows], segment.batch.label
        batch = Batch(x_0, None if label is None else label[:rows])
        own = Segment(segment.cast, batch, t, torch.zeros_like(t), segment.generator)
        values = own.student_t.components_kl(own.teacher_t.log_p)
        return torch.cat([values * (B / rows), values.new_zeros(B - rows)])


class Config(losses.Config):
    """Distillation near t = 0."""

    at: tuple[float, float] | None = None
    """Own times, uniform between two bounds (the paper's pixels: [0.01, 0.02]); unset: the batch's own t."""
    share: float = Field(1.0, gt=0, le=1)
    """With `at`: the share of the batch that takes part."""

    def build(self) -> losses.Loss:
        return Distillation(self.at, self.share)
