"""Discretised Gaussian diffusion, a continuous-time chain on ordered states (tauLDR, arXiv 2205.14987).

A base generator R, reversible with respect to a discretised Gaussian pi, runs at rate beta(t); all R_t
commute, so q_{t|s} = exp((B_t - B_s) R) with B_t = b (e^t - 1) for time base b and time exponential e.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import processes
from di4c_cli.core.processes._jump import JumpProcess
from di4c_cli.core.space import StateSpace

PAPER_RATE_SIGMA = 6.0
# Time base times spectral gap of the paper's chain: S = 256, time base 3.
PAPER_MIXING = 3.0 * 0.020920386257618
NOISE = 1e-16  # what rounding leaves of the eigendecomposition where a probability is smaller still


def stationary_law(num_states: int, target_sigma: float) -> Float[Tensor, " S"]:
    """pi_k proportional to exp(-((k + 1) - S/2)^2 / (2 target_sigma^2)); also the sampling prior."""
    k = torch.arange(num_states, dtype=torch.float64)
    return (-((k + 1 - num_states / 2) ** 2) / (2 * target_sigma**2)).softmax(0)


def base_generator(num_states: int, rate_sigma: float, pi: Float[Tensor, " S"]) -> Float[Tensor, "S S"]:
    """R: rate exp(-((|i-j|-1)/rate_sigma)^2) from the more extreme of two states to the more central one.

    The other direction follows from detailed balance, R_ij = R_ji pi_j / pi_i; rows sum to 0.
    """
    index = torch.arange(num_states)
    i, j = index[:, None], index[None, :]
    direct = ((i < j) & (i + j < num_states)) | ((i > j) & (i + j >= num_states))
    inward = torch.exp(-((((i - j).abs() - 1).double() / rate_sigma) ** 2)) * direct
    R = inward + inward.T * (pi[None, :] / pi[:, None])
    return R - torch.diag(R.sum(1))


class GaussianProcess(JumpProcess):
    """Discretised Gaussian chain; kernels by one symmetric float64 eigendecomposition."""

    ordinal = True

    def __init__(
        self,
        space: StateSpace,
        rate_sigma: float = PAPER_RATE_SIGMA,
        target_sigma: float = 512.0,
        time_base: float | None = None,
        time_exponential: float = 100.0,
    ) -> None:
        self.space = space
        self.time_exponential = time_exponential
        self.pi = stationary_law(space.num_states, target_sigma)
        self.rate_base = base_generator(space.num_states, rate_sigma, self.pi)
        # diag(sqrt pi) R diag(1/sqrt pi) is symmetric, so its eigensystem is real and orthogonal.
        root = self.pi.sqrt()
        symmetric = root[:, None] * self.rate_base / root[None, :]
        eigenvalues, U = torch.linalg.eigh((symmetric + symmetric.T) / 2)
        self._spectrum = (eigenvalues.clamp(max=0), U / root[:, None], U.T * root[None, :])
        # The slowest mode decays with the gap below the largest eigenvalue, which is 0.
        gap = -eigenvalues[-2].item()
        self.time_base = PAPER_MIXING / gap if time_base is None else time_base
        self._kernel_at = lru_cache(maxsize=64)(
            lambda duration: self._kernels(torch.tensor([duration], dtype=torch.float64))
        )

    def integrated_rate(self, t: Tensor) -> Tensor:
        """B_t = b (e^t - 1), the chain's own clock."""
        return self.time_base * torch.expm1(t.double() * math.log(self.time_exponential))

    def rate_scale(self, t: Tensor) -> Tensor:
        """beta(t) = dB_t / dt."""
        log_e = math.log(self.time_exponential)
        return self.time_base * log_e * torch.exp(t.double() * log_e)

    def _kernels(self, durations: Float[Tensor, " T"]) -> Float[Tensor, "T S S"]:
        """exp(duration R), floored at its own rounding noise: quotients of far entries would be arbitrary."""
        eigenvalues, left, right = self._spectrum
        q = (left * torch.exp(eigenvalues * durations[:, None])[:, None, :]) @ right
        q = q.clamp(min=NOISE)
        return q / q.sum(-1, keepdim=True)

    def kernels(
        self, t: Float[Tensor, " N"], s: Float[Tensor, " N"]
    ) -> tuple[Float[Tensor, "T S S"], Int[Tensor, " N"]]:
        """The distinct q_{t|s} of a batch, and which one each row uses. A shared (t, s) is cached."""
        duration = self.integrated_rate(t) - self.integrated_rate(s)
        distinct, which = torch.unique(duration, return_inverse=True)
        q = self._kernel_at(distinct.item()) if len(distinct) == 1 else self._kernels(distinct.cpu())
        return q.to(t.device), which

    def prior_probs(self) -> Float[Tensor, " S"]:
        return self.pi

    def rows(
        self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"], s: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        q, which = self.kernels(t, s)
        return q[which[:, None], x]

    def columns(
        self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"], s: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        q, which = self.kernels(t, s)
        return q.transpose(1, 2).contiguous()[which[:, None], x]  # rows are read much faster than columns

    def push(self, weights: Float[Tensor, "N D S"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        q, which = self.kernels(t, torch.zeros_like(t))
        return _times(weights, q, which)

    def pull(self, weights: Float[Tensor, "N D S"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        q, which = self.kernels(t, torch.zeros_like(t))
        return _times(weights, q.transpose(1, 2), which)

    def rate_columns(self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        return self.rate_base.T.to(x.device)[x] * self.rate_scale(t)[:, None, None]

    def rate_rows(self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        return self.rate_base.to(x.device)[x] * self.rate_scale(t)[:, None, None]


def _times(
    weights: Float[Tensor, "N D S"], q: Float[Tensor, "T S S"], which: Int[Tensor, " N"]
) -> Float[Tensor, "N D S"]:
    """Each row times its own kernel."""
    if len(q) == 1:
        return weights @ q[0]
    found = torch.empty_like(weights)
    for k in range(len(q)):  # q[which] would be one (S, S) matrix for each row
        rows = which == k
        found[rows] = weights[rows] @ q[k]
    return found


class Config(processes.Config):
    """Discretised Gaussian process."""

    rate_sigma: float = Field(PAPER_RATE_SIGMA, gt=0)
    """Width of the jumps, in states."""
    target_sigma: float = Field(512.0, gt=0)
    """Width of the stationary law, in states."""
    time_base: float | None = Field(None, gt=0)
    """Speed of the chain; unset: it mixes as fast as the paper's (3.0 at 256 states)."""
    time_exponential: float = Field(100.0, gt=1)
    """Growth of the speed over t in [0, 1]."""

    def build(self, space: StateSpace) -> GaussianProcess:
        return GaussianProcess(
            space, self.rate_sigma, self.target_sigma, self.time_base, self.time_exponential
        )
