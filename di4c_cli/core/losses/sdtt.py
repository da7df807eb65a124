"""Self-distillation through time (SDTT, arXiv 2410.21035): one step learns what n teacher steps reveal."""

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.product_law import KeptLaw, ProductLaw
from di4c_cli.core.readings import MarginalKL, Reading
from di4c_cli.core.segment import Segment
from di4c_cli.core.sites import Sites

SMALLEST = 1e-5  # the reference's sampling_eps, below which it asks no model


@dataclass(frozen=True)
class SDTT(losses.LawLoss):
    """Mean over the batch's masked positions of the KL between the student and a target of n teacher steps.

    A datum's value is its share of that mean: the mean of the values over the batch is the loss.
    """

    steps: int
    divergence: Literal["kl_backward", "kl_forward"]
    parity: bool

    def readings(self, segment: Segment) -> list[Reading]:
        reverse = self.divergence == "kl_backward"
        return [MarginalKL(self.target(segment), reverse=reverse, where=self._masked(segment))]

    def value(self, segment: Segment, *answers: Tensor) -> Float[Tensor, " B"]:
        masked = self._masked(segment)
        return answers[0] * len(masked) / masked.sum().clamp(min=1)

    def _masked(self, segment: Segment) -> Bool[Tensor, "B D"]:
        mask_id = segment.cast.process.space.mask_id
        if mask_id is None:
            raise ValueError("loss 'sdtt' needs a process with a mask")
        return segment.x_t == mask_id

    @torch.no_grad()
    def target(self, segment: Segment) -> ProductLaw:
        """For each position the teacher's law in the step that revealed it, the last one where none did."""
        sites = Sites.where(self._masked(segment))
        sampler, teacher = segment.cast.teacher_sampler, segment.cast.teacher
        if sampler is None or teacher is None:
            raise ValueError("loss 'sdtt' needs a teacher and a teacher sampler")
        label, generator = segment.batch.label, segment.generator
        x, grid = segment.x_t, self.grid(segment.t, segment.s)
        own = self.parity  # its grid does not begin at t, where the segment's law is
        law = teacher(x, grid[0][0], label, generator=generator) if own else segment.teacher_t
        target = law.read(sites)
        for (t, s), (following, _) in itertools.pairwise(grid):
            x = sampler.step(law, x, t, s, generator)[:, 0]
            law = teacher(x, following, label, generator=generator)
            # What is masked here is revealed in this step or a later one, which then overwrites.
            still = (sites.at(x) == sites.at(segment.x_t))[:, None]
            target = torch.where(still, law.read(sites), target)
        return KeptLaw(target, sites, segment.x_t)

    def grid(self, t: Float[Tensor, " B"], s: Float[Tensor, " B"]) -> list[tuple[Tensor, Tensor]]:
        """(from, to) of each step: n equal parts of [s, t].

        Under parity the reference's: steps of the nominal length dt from c_i t + (1 - t) (t - n dt), c going
        from 1 to 0, where (1 - c_i) in place of (1 - t) would give points of [t - n dt, t].
        """
        n = self.steps
        if not self.parity:
            points = [t + (s - t) * (i / n) for i in range(n + 1)]
            return list(itertools.pairwise(points))
        dt = (t - s).amax() / n  # s = 0 cuts steps short; the longest of the batch is whole
        starts = [(c * t + (1 - t) * (t - n * dt)).clamp(min=SMALLEST) for c in torch.linspace(1, 0, n)]
        return [(start, (start - dt).clamp(min=0)) for start in starts]


class Config(losses.Config):
    """Self-distillation through time."""

    steps: int = Field(2, ge=1)
    """n: teacher steps from t to s, which the student learns to take at once."""
    divergence: Literal["kl_backward", "kl_forward"] = "kl_backward"
    """KL(student || teacher), as for the released "kld" models, or KL(teacher || student)."""
    parity: bool = False
    """The reference's times inside the target, which are not those of its steps."""

    def build(self) -> losses.Loss:
        return SDTT(self.steps, self.divergence, self.parity)
