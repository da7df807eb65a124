"""Mixtures of product laws, as pure functions: what happens at one position, and what couples positions.

At a position, `log_p (*rows, L, S)` holds log p(. ; lam_l). The joint is the equal-weight mixture over l of
products over positions (Di4C, Section 3), so it needs only `sums (B, L, N)`: for each component the sum over
positions of its log-factors at N points. Every estimate over L draws is a log of a mean: biased low by
Jensen, consistent in L.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """log of the mean of exp(values) along `dim`."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def log_marginal(log_p: Float[Tensor, "P L S"]) -> Float[Tensor, "P S"]:
    """log (1/L) sum_l p(. ; lam_l): the marginal of the mixture at one position."""
    return log_p[:, 0] if log_p.shape[1] == 1 else log_mean_exp(log_p, 1)


def log_factors(log_p: Float[Tensor, "P L S"], x: Int[Tensor, "P N"]) -> Float[Tensor, "P L N"]:
    """log p(x_n ; lam_l): what each component gives to each point at one position."""
    return log_p.gather(-1, x[:, None].expand(-1, log_p.shape[1], -1))


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
