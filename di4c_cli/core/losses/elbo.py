"""The ELBO of a continuous-time chain with one network call (tauLDR, arXiv 2205.14987, Proposition 2).

The state that is denoised, y, is x_t after one more jump of the forward chain. The bound asks for the reverse
rates out of x_t and for the log-rates from y back to where the jump came from; both are read off at y.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.processes._jump import JumpProcess
from di4c_cli.core.segment import Segment
from di4c_cli.core.space import sample_categorical

EPS = 1e-9  # tauLDR's guard of quotients and logarithms; it also bounds what an untrained model can cost


def one_jump(
    process: JumpProcess, x_t: Int[Tensor, "B D"], t: Float[Tensor, " B"], generator: torch.Generator
) -> Int[Tensor, "B D"]:
    """x_t after one jump of the forward chain at its rates at t: which position, then where to."""
    rates = process.forward_rates(x_t, t)
    where = sample_categorical(rates.sum(-1).log(), generator)
    row = rates.gather(1, where[..., None].expand(-1, -1, rates.shape[-1]))
    to = sample_categorical(row.log(), generator).squeeze(-1)
    return x_t.scatter(1, where, to)


def negative_elbo(
    process: JumpProcess,
    log_p: Float[Tensor, "B D S"],
    x_0: Int[Tensor, "B D"],
    y: Int[Tensor, "B D"],
    t: Float[Tensor, " B"],
    *,
    parity: bool,
) -> Float[Tensor, " B"]:
    """Minus the bound for one datum, t and y, in nats per unit of t; terms without the model are left out.

    y ends a jump, so its law is not q_t: `weight` is the ratio of the two, and dividing by it makes the mean
    over y the bound at t. The reference divides the log-rates alone (`parity`): its minimum is off the exact
    reverse rates, the more the fewer positions there are.

    Args:
        log_p: the model at y.
    """
    now, here = torch.zeros_like(t), y[..., None]
    into = process.rate_columns(y, t).scatter(-1, here, 0.0)  # R_t(k, y^d)
    quotient = log_p.double().exp() / (process.columns(y, t, now) + EPS)
    pushed = process.push(quotient, t)  # sum_k0 p^d(k0) q_t(k | k0) / q_t(y^d | k0)
    out = (into * pushed).sum((-2, -1))
    q = process.rows(x_0, t, now)
    flow = into * q / (q.gather(-1, here) + EPS)
    back = (flow * (pushed + EPS).log()).sum((-2, -1))
    exits = exit_rates(process, t)
    left = exits.gather(1, y)
    before = (
        left.sum(1)[:, None, None] - left[..., None] + exits[:, None]
    )  # exit rate of y with k in place of y^d
    weight = (flow / before).sum((-2, -1))
    return out - back / weight if parity else (out - back) / weight


def exit_rates(process: JumpProcess, t: Float[Tensor, " B"]) -> Float[Tensor, "B S"]:
    """-R_t(k, k) for every state k."""
    states = torch.arange(process.space.num_states, device=t.device).expand(len(t), -1)
    return process.forward_rates(states, t).sum(-1)


@dataclass(frozen=True)
class ELBO:
    """-ELBO plus a little cross-entropy of x_0, a mean over positions."""

    auxiliary: float
    parity: bool

    def __call__(self, segment: Segment) -> Float[Tensor, " B"]:
        process, cast = segment.cast.process, segment.cast
        if not isinstance(process, JumpProcess):
            raise ValueError("loss 'elbo' needs jumps between the data's own states; use 'denoising'")
        x_0, t = segment.batch.x_0, segment.t
        y = one_jump(process, segment.x_t, t, segment.generator)
        law = cast.student.law(
            y, t, segment.batch.label, generator=segment.generator, num_latents=cast.num_latents
        )
        log_p = law.log_marginal()
        bound = negative_elbo(process, log_p, x_0, y, t, parity=self.parity)
        return bound - self.auxiliary * log_p.gather(-1, x_0[..., None]).squeeze(-1).mean(1)


class Config(losses.Config):
    """Evidence lower bound of jump processes (tauLDR)."""

    auxiliary: float = Field(0.001, ge=0)
    """Weight of the cross-entropy beside the bound."""
    parity: bool = False
    """As the reference, whose one-call bound is not quite the bound."""

    def build(self) -> losses.Loss:
        return ELBO(self.auxiliary, self.parity)
