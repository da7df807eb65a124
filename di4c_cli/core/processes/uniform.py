"""Uniform process: with probability 1 - alpha_t a position is redrawn uniformly (D3PM, SEDD, Duo)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import processes
from di4c_cli.core.processes._jump import JumpProcess
from di4c_cli.core.processes._schedule import Schedule, corrupted, rate
from di4c_cli.core.space import StateSpace

EPS = 1e-3  # alpha_1


class UniformProcess(JumpProcess):
    """q_{t|s}(. | x) = g 1[. = x] + (1 - g) / S with g = alpha_t / alpha_s, alpha_t = 1 - (1 - eps) m(t)."""

    def __init__(self, space: StateSpace, schedule: Schedule = "linear") -> None:
        self.space = space
        self.schedule = schedule

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (1 - EPS) * corrupted(self.schedule, t)

    def prior_probs(self) -> Float[Tensor, " S"]:
        S = self.space.num_states
        return torch.full((S,), 1 / S, dtype=torch.float64)

    def rows(
        self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"], s: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        g = (self.alpha(t) / self.alpha(s))[:, None, None]
        S = self.space.num_states
        return ((1 - g) / S).expand(*x.shape, S).scatter_add(-1, x[..., None], g.expand(*x.shape, 1))

    def columns(
        self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"], s: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        return self.rows(x, t, s)  # the kernel is symmetric

    def push(self, weights: Float[Tensor, "N D S"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        alpha = self.alpha(t)[:, None, None]
        return alpha * weights + (1 - alpha) / self.space.num_states * weights.sum(-1, keepdim=True)

    def pull(self, weights: Float[Tensor, "N D S"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        return self.push(weights, t)

    def rate_columns(self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        S = self.space.num_states
        scale = ((1 - EPS) * rate(self.schedule, t) / self.alpha(t))[:, None, None]
        into = torch.full((*x.shape, S), 1 / S, dtype=torch.float64, device=x.device)
        return scale * into.scatter(-1, x[..., None], 1 / S - 1)

    def rate_rows(self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        return self.rate_columns(x, t)  # symmetric like the kernel


class Config(processes.Config):
    """Uniform process."""

    schedule: Schedule = "linear"
    """How the redrawn share grows with t, as that of the mask in the masked process."""

    def build(self, space: StateSpace) -> UniformProcess:
        return UniformProcess(space, self.schedule)
