"""Features of the scalars t and lambda, and lambda as a token."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

LAM_FEATURES = 128  # width of lambda's sinusoids where it is a token


def sinusoid(z: Float[Tensor, "*rows"], width: int, dtype: torch.dtype) -> Float[Tensor, "*rows {width}"]:
    """[sin(z f_k), cos(z f_k)] with f_k = 10000^(-k / (width/2 - 1)) (tauLDR's time embedding)."""
    angle = z.double()[..., None] * _frequencies(width // 2, z.device)
    return torch.cat([angle.sin(), angle.cos()], -1).to(dtype)


@lru_cache
def _frequencies(num: int, device: torch.device) -> Float[Tensor, " {num}"]:
    return torch.exp(-math.log(10000) * torch.arange(num, device=device, dtype=torch.float64) / (num - 1))


def lambda_projection(width: int) -> nn.Sequential:
    """From lambda's sinusoids to a token (Di4C's released transformers)."""
    return nn.Sequential(nn.Linear(LAM_FEATURES, 512), nn.GELU(), nn.Linear(512, width))


def with_lambda_token(
    h: Float[Tensor, "B M H"], lam: Float[Tensor, "B L"], scale: float, projection: nn.Module
) -> Float[Tensor, "{lam.numel()} {h.shape[1]+1} H"]:
    """The tokens of each datum once for each of its draws of lambda, that draw's own token last."""
    token = projection(sinusoid(scale * lam, LAM_FEATURES, h.dtype))
    return torch.cat([h[:, None].expand(-1, lam.shape[1], -1, -1), token[:, :, None]], 2).flatten(0, 1)
