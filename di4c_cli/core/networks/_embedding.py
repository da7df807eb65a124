"""Features of the scalars t and lambda."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoid(z: Float[Tensor, "*rows"], width: int, dtype: torch.dtype) -> Float[Tensor, "*rows {width}"]:
    """[sin(z f_k), cos(z f_k)] with f_k = 10000^(-k / (width/2 - 1)) (tauLDR's time embedding)."""
    half = width // 2
    frequency = torch.exp(
        -math.log(10000) * torch.arange(half, device=z.device, dtype=torch.float64) / (half - 1)
    )
    angle = z.double()[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1).to(dtype)
