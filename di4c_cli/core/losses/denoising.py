"""Denoising cross-entropy: how a product-model teacher learns from data.

With weight m'(t)/m(t) (`inverse` for the linear schedule) it is the NELBO of masked diffusion (MDLM, Eq. 11).
"""

from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.segment import Segment


def denoising(segment: Segment) -> Float[Tensor, " B"]:
    """-sum_d log p^d(x_0^d | x_t)."""
    log_p = segment.student_t.log_marginal()
    return -log_p.gather(-1, segment.batch.x_0[..., None]).sum((-2, -1))


class Config(losses.Config):
    """Cross-entropy of the data."""

    def build(self) -> losses.Loss:
        return denoising
