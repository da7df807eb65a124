"""Denoising cross-entropy: how a product-model teacher learns from data.

With weight m'(t)/m(t) it is the NELBO of masked diffusion (MDLM, Eq. 11): `inverse`, exactly, for the linear
and the loglinear schedule, as long as its floor does not lie above the smallest t.
"""

from dataclasses import dataclass

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.segment import Segment
from di4c_cli.core.space import NEVER


@dataclass(frozen=True)
class Denoising:
    """-sum_d sum_k r^d(k) log p^d(k | x_t), r = 1 - smoothing at x_0^d and the rest spread evenly.

    It is spread over the states that the parameterization allows: never over the mask, nor, with SUBS,
    away from what is visible.
    """

    smoothing: float

    def __call__(self, segment: Segment) -> Float[Tensor, " B"]:
        log_p = segment.student_t.log_marginal()
        values = -log_p.gather(-1, segment.batch.x_0[..., None]).sum((-2, -1))
        if not self.smoothing:
            return values
        allowed = log_p > NEVER / 2
        even = -(log_p.where(allowed, log_p.new_zeros(())).sum(-1) / allowed.sum(-1)).sum(-1)
        return (1 - self.smoothing) * values + self.smoothing * even


class Config(losses.Config):
    """Cross-entropy of the data."""

    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing: share of the target spread evenly over all states (MaskGIT: 0.1)."""

    def build(self) -> losses.Loss:
        return Denoising(self.smoothing)
