"""The truncated logistic: S logits from two numbers."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

SHARPEST = 30.0  # greatest log of an inverse scale: gradients, and their squares, stay finite in float32
FLOOR = 1e-6  # added to a bin's share of what lies left of its right edge


def truncated_logistic(
    params: Float[Tensor, "*rows 2"], num_states: int
) -> Float[Tensor, "*rows {num_states}"]:
    """Logits of a logistic density integrated over S equal bins of [-1, 1] (D3PM, tauLDR).

    logit_k = log F(right edge of bin k) + log1p(1e-6 - F(left edge) / F(right edge)), with
    F(e) = sigma((e - mu) exp(2 - s)) for params (mu, s). Softmax truncates it to [-1, 1].

    The order of the operations is the published one: where 1e-6 takes over, beyond the last bins that matter,
    float32 rounding alone moves a logit by hundredths, and networks were trained with that. Only the params
    are kept for the backward pass.
    """
    return _TruncatedLogistic.apply(params, num_states)  # type: ignore[no-untyped-call]


def _at_edges(params: Tensor, num_states: int) -> tuple[Tensor, Tensor, Tensor]:
    """exp(2 - s), and at the S + 1 edges: z = (e - mu) exp(2 - s) and log F(e)."""
    mu, log_scale = params.unsqueeze(-2).unbind(-1)
    edges = torch.linspace(-1, 1, num_states + 1, dtype=params.dtype, device=params.device)
    sharpness = (2 - log_scale).clamp(max=SHARPEST).exp()
    z = (edges - mu).mul_(sharpness)
    return sharpness.squeeze(-1), z, logsigmoid(z)


class _TruncatedLogistic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, params: Tensor, num_states: int) -> Tensor:
        ctx.save_for_backward(params)
        ctx.num_states = num_states
        _, _, log_cdf = _at_edges(params, num_states)
        left, right = log_cdf[..., :-1], log_cdf[..., 1:]
        return (left - right).exp_().neg_().add_(FLOOR).log1p_().add_(right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """With r = F(left) / F(right), w = r / (1 + 1e-6 - r) and d log F / d z = 1 - F:

        d logit = (1 + w) d log F(right) - w d log F(left).
        """
        (params,) = ctx.saved_tensors
        sharpness, z, log_cdf = _at_edges(params, ctx.num_states)
        ratio = (log_cdf[..., :-1] - log_cdf[..., 1:]).exp_()
        weighted = grad * ratio / (1 - ratio + FLOOR)
        down = log_cdf.expm1_()  # F - 1
        down[..., 0] *= -weighted[..., 0]
        down[..., 1:-1] *= grad[..., :-1] + weighted[..., :-1] - weighted[..., 1:]
        down[..., -1] *= grad[..., -1] + weighted[..., -1]
        moves = 2 - params[..., 1] <= SHARPEST
        return torch.stack([down.sum(-1) * sharpness, (down * z).sum(-1) * moves], -1), None
