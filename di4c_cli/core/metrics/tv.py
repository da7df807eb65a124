"""Exact total variation between the law of a K-step sampler and the data, for enumerable joints.

The law of the chain is pushed through every call over all S^D states. The sampler is taken to be the
ancestral one (exact posterior, last step drawn), with a fresh lambda at every step.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import metrics
from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.metrics import Direction, Trial
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.samplers import Call, Plan
from di4c_cli.errors import RecipeError

LATENT_SEED = 0  # the lambda grid belongs to the measurement: the figure is the same for every sampling seed


def total_variation(p: Float[Tensor, "*states"], q: Float[Tensor, "*states"]) -> float:
    """Half the L1 distance of two tables."""
    return 0.5 * (p - q).abs().sum().item()


def law_of_plan(
    plan: Plan, process: ForwardProcess, *, num_latents: int, chunk: int, device: torch.device | str = "cpu"
) -> Float[Tensor, "*states"]:
    """The exact law of x_0 under a plan, as a table of shape (S,) * D over the process's states.

    The plan's models are on `device`; the table is on the CPU.
    """
    D, S = process.space.num_dims, process.space.num_states
    prior = process.prior_probs().cpu()
    mu = torch.ones(1, dtype=torch.float64)
    for _ in range(D):
        mu = torch.kron(mu, prior)
    generator = torch.Generator().manual_seed(LATENT_SEED)
    for call in plan:
        reached = mu.nonzero().squeeze(-1)
        mass = torch.zeros(S ** (D // 2), S ** (D - D // 2), dtype=torch.float64)
        for index in reached.split(chunk):
            x_t = torch.stack(torch.unravel_index(index, (S,) * D), -1).to(device)
            mass += _pushed(mu[index], step_probs(call, process, x_t, generator, num_latents).cpu())
        mu = mass.flatten()
    return mu.view((S,) * D)


def step_probs(
    call: Call, process: ForwardProcess, x_t: Int[Tensor, "B D"], generator: torch.Generator, num_latents: int
) -> Float[Tensor, "B L D S"]:
    """p_{s|t}(. | x_t; lam_l) of each position, float64, rows of sum 1."""
    t = torch.full((len(x_t),), call.t, dtype=torch.float64, device=x_t.device)
    law = call.denoiser.law(x_t, t, generator=generator, num_latents=num_latents)
    if not isinstance(law, MixtureLaw):
        raise RecipeError("metrics: tv reads mixtures of product laws only", "leave tv out for this student")
    log_p = law.log_p.double().log_softmax(-1)  # the sampler draws from normalised float64 rows too
    if call.s == 0:
        return log_p.exp()
    B, L, D, S = log_p.shape
    s = torch.full((B * L,), call.s, dtype=torch.float64, device=x_t.device)
    rows = process.log_transition(
        log_p.view(B * L, D, S), x_t.repeat_interleave(L, 0), t.repeat_interleave(L), s
    )
    return rows.softmax(-1).view(B, L, D, -1)


def _pushed(mu: Float[Tensor, " B"], probs: Float[Tensor, "B L D S"]) -> Float[Tensor, "a b"]:
    """sum_x mu(x) (1/L) sum_l prod_d T^d, as a matrix over the first half of the positions and the second."""
    B, L, D, S = probs.shape
    rows = probs.reshape(B * L, D, S)
    weight = (mu / L).repeat_interleave(L)
    first, second = _kronecker(rows[:, : D // 2]), _kronecker(rows[:, D // 2 :])
    return (first * weight[:, None]).T @ second


def _kronecker(rows: Float[Tensor, "n d S"]) -> Float[Tensor, "n states"]:
    """The product law of d positions over its S^d states."""
    table = rows.new_ones(len(rows), 1)
    for d in range(rows.shape[1]):
        table = (table[:, :, None] * rows[:, d, None, :]).flatten(1)
    return table


class TotalVariation:
    """`tv` against the joint of the data set."""

    def __init__(self, num_latents: int, chunk: int) -> None:
        self.directions: dict[str, Direction] = {"tv": "lower"}
        self.num_latents = num_latents
        self.chunk = chunk

    @torch.no_grad()
    def __call__(self, trial: Trial) -> dict[str, float]:
        joint = trial.dataset.joint
        if joint is None:
            raise RecipeError(
                "metrics: tv needs a data set with an exact joint", "use it with the data set 'toy'"
            )
        if trial.plan is None:
            return {}
        law = law_of_plan(
            trial.plan,
            trial.process,
            num_latents=self.num_latents,
            chunk=self.chunk,
            device=trial.device,
        )
        target = torch.zeros_like(law)  # the mask, if there is one, is the last state: data is the low corner
        target[tuple(slice(n) for n in joint.shape)] = joint
        return {"tv": total_variation(law, target)}


class Config(metrics.Config):
    """Exact total variation of the K-step law; needs an enumerable joint."""

    num_latents: int = Field(128, ge=1)
    """Stratified draws of lambda for each state and step."""
    chunk: int = Field(512, ge=1)
    """States pushed at a time."""

    def build(self) -> TotalVariation:
        return TotalVariation(self.num_latents, self.chunk)
