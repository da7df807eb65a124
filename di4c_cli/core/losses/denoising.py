"""Denoising cross-entropy: how a product-model teacher learns from data.

With weight m'(t)/m(t) it is the NELBO of masked diffusion (MDLM, Eq. 11): `inverse`, exactly, for the linear
and the loglinear schedule, as long as its floor does not lie above the smallest t.
"""

from dataclasses import dataclass

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.readings import EvenLogMarginal, LogMarginal, Reading
from di4c_cli.core.segment import Segment


@dataclass(frozen=True)
class Denoising(losses.LawLoss):
    """-sum_d sum_k r^d(k) log p^d(k | x_t), r = 1 - smoothing at x_0^d and the rest spread evenly.

    It is spread over the states that the parameterization allows: never over the mask, nor, with SUBS,
    away from what is visible.
    """

    smoothing: float

    def readings(self, segment: Segment) -> list[Reading]:
        x_0 = LogMarginal(segment.batch.x_0[:, None])
        return [x_0, EvenLogMarginal()] if self.smoothing else [x_0]

    def value(self, segment: Segment, *answers: Tensor) -> Float[Tensor, " B"]:
        x_0 = -answers[0].squeeze(1)
        return (1 - self.smoothing) * x_0 - self.smoothing * answers[1] if self.smoothing else x_0


class Config(losses.Config):
    """Cross-entropy of the data."""

    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing: share of the target spread evenly over all states (MaskGIT: 0.1)."""

    def build(self) -> losses.Loss:
        return Denoising(self.smoothing)
