"""Mixtures of product laws, as pure functions: what happens at one position, and what couples positions.

At a position, `log_p (*rows, L, S)` holds log p(. ; lam_l). The joint is the equal-weight mixture over l of
products over positions (Di4C, Section 3), so it needs only `sums (B, L, N)`: for each component the sum over
positions of its log-factors at N points. Every estimate over L draws is a log of a mean: biased low by
Jensen, consistent in L.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """log of the mean of exp(values) along `dim`."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def log_marginal(log_p: Float[Tensor, "P L S"]) -> Float[Tensor, "P S"]:
    """log (1/L) sum_l p(. ; lam_l): the marginal of the mixture at one position."""
    return log_p[:, 0] if log_p.shape[1] == 1 else log_mean_exp(log_p, 1)


def log_factors(log_p: Float[Tensor, "P L S"], x: Int[Tensor, "P N"]) -> Float[Tensor, "P L N"]:
    """log p(x_n ; lam_l): what each component gives to each point at one position."""
    return log_p.gather(-1, x[:, None].expand(-1, log_p.shape[1], -1))


def marginal_and_factors(
    log_p: Float[Tensor, "P L S"], x: Int[Tensor, "P N"]
) -> tuple[Float[Tensor, "P S"], Float[Tensor, "P L N"]]:
    """`log_marginal` and `log_factors` with one gradient for both.

    By itself autograd would make a tensor as large as `log_p` for each of them, and add the two up.
    """
    return _MarginalAndFactors.apply(log_p, x)  # type: ignore[no-untyped-call]


class _MarginalAndFactors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_p: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        marginal = log_mean_exp(log_p, 1)
        ctx.save_for_backward(log_p, marginal, x)
        return marginal, log_factors(log_p, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_marginal: Tensor, to_factors: Tensor) -> tuple[Tensor, None]:
        """d log_marginal(k) / d log_p(l, k) = rho_l(k) / L, with rho_l(k) = p_l(k) / marginal(k)."""
        log_p, marginal, x = ctx.saved_tensors
        L = log_p.shape[1]
        gradient = (log_p - marginal[:, None]).exp_().mul_((to_marginal / L)[:, None])
        return gradient.scatter_add_(-1, x[:, None].expand(-1, L, -1), to_factors), None


def kl(log_p: Float[Tensor, "*#rows S"], log_q: Float[Tensor, "*#rows S"]) -> Float[Tensor, "*#rows"]:
    """KL(p || q) at one position, in nats."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def log_joint(sums: Float[Tensor, "B L N"]) -> Float[Tensor, "B N"]:
    """log (1/L) sum_l prod_d p^d(x_n^d ; lam_l): the joint log-likelihood, the paper's J."""
    return log_mean_exp(sums, 1)


def responsibilities(sums: Float[Tensor, "B L N"]) -> Float[Tensor, "B L N"]:
    """p(l | x_n): the share of each component in the joint at each point."""
    return sums.softmax(1)


def effective_components(sums: Float[Tensor, "B L N"]) -> Float[Tensor, "B N"]:
    """exp of the entropy of the responsibilities: L where lambda is ignored, towards 1 where it decides."""
    return torch.special.entr(responsibilities(sums)).sum(1).exp()
