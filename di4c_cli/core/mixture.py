"""Mixtures of product laws, as pure functions of the components' log-probabilities.

`log_p (B, L, D, S)` holds log p^d(. ; lam_l); the law is the equal-weight mixture over l of the products over
d (Di4C, Section 3). Every estimate over L draws is a log of a mean: biased low by Jensen, consistent in L.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """log of the mean of exp(values) along `dim`."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def log_marginal(log_p: Float[Tensor, "B L D S"]) -> Float[Tensor, "B D S"]:
    """log (1/L) sum_l p^d(. ; lam_l): one-position marginals of the mixture."""
    return log_mean_exp(log_p, 1)


def log_factors(log_p: Float[Tensor, "B L D S"], x: Int[Tensor, "B N D"]) -> Float[Tensor, "B L N D"]:
    """log p^d(x_n^d ; lam_l): what each component gives to each position of each point."""
    index = x.transpose(1, 2).unsqueeze(1).expand(-1, log_p.shape[1], -1, -1)  # (B, L, D, N)
    return log_p.gather(-1, index).transpose(2, 3)


def log_joint_of_factors(log_f: Float[Tensor, "B L N D"]) -> Float[Tensor, "B N"]:
    """log (1/L) sum_l prod_d f: the mixture of products of any per-component factors.

    The sum over positions runs to thousands of nats, so it is kept in at least float32.
    """
    return log_mean_exp(log_f.sum(-1), 1)


def log_joint(log_p: Float[Tensor, "B L D S"], x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
    """log (1/L) sum_l prod_d p^d(x^d ; lam_l): the mixture's joint log-likelihood, the paper's J."""
    return log_joint_of_factors(log_factors(log_p, x))


def correlation(log_p: Float[Tensor, "B L D S"], x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
    """Joint minus product of marginals, J(x) - M(x), both from the same draws of lambda.

    The control variate of Di4C (Section 4): minus its mean over samples of the target, plus the closed-form
    KL of the marginals, has the gradient of the full KL at a fraction of its variance.
    """
    log_f = log_factors(log_p, x)
    return log_joint_of_factors(log_f) - log_mean_exp(log_f, 1).sum(-1)


def responsibilities(log_p: Float[Tensor, "B L D S"], x: Int[Tensor, "B N D"]) -> Float[Tensor, "B L N"]:
    """p(l | x_n): the share of each component in the joint at each point."""
    return log_factors(log_p, x).sum(-1).softmax(1)


def kl(log_p: Float[Tensor, "*#rows D S"], log_q: Float[Tensor, "*#rows D S"]) -> Float[Tensor, "*#rows"]:
    """sum_d KL(p^d || q^d): the KL divergence between product laws, in nats."""
    return (log_p.exp() * (log_p - log_q)).sum((-2, -1))


def effective_components(log_p: Float[Tensor, "B L D S"], x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
    """exp of the entropy of the responsibilities: L where lambda is ignored, towards 1 where it decides."""
    share = responsibilities(log_p, x)
    return torch.special.entr(share).sum(1).exp()
