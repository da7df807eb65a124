"""Exact total variation between the law of a K-step sampler and the data, for enumerable joints.

The law of the chain is pushed through every call over all S^D states, whatever law the model hands out. The
sampler is taken to be the ancestral one (exact posterior, last step drawn), with fresh latents at every step.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import metrics
from di4c_cli.core.codecs import Codec
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.law import Law, MixtureLaw
from di4c_cli.core.metrics import Direction, Trial
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.samplers import Call, Plan

LATENT_SEED = 0  # the lambda grid belongs to the measurement: the figure is the same for every sampling seed

POINTS = 1024  # a law is asked about at a time: it holds a number for each, row and component


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
            mass += _through(call, process, mu[index], x_t, generator, num_latents)
        mu = mass.flatten()
    return mu.view((S,) * D)


def _through(
    call: Call,
    process: ForwardProcess,
    mu: Float[Tensor, " B"],
    x_t: Int[Tensor, "B D"],
    generator: torch.Generator,
    num_latents: int,
) -> Float[Tensor, "a b"]:
    """sum_x mu(x) p_{s|t}(. | x), as a matrix over the first half of the positions and the second."""
    t = torch.full((len(x_t),), call.t, dtype=torch.float64, device=x_t.device)
    law = call.denoiser.law(x_t, t, generator=generator, num_latents=num_latents)
    if isinstance(law, MixtureLaw):  # the general way holds a number for each component and point
        return _pushed(mu, _mixture_probs(law, call, process, x_t, t).cpu())
    S, D = process.space.num_states, process.space.num_dims
    probs = _law_probs(law, call, process, x_t, t).cpu()
    return (mu @ probs).view(S ** (D // 2), S ** (D - D // 2))


def _law_probs(
    law: Law, call: Call, process: ForwardProcess, x_t: Int[Tensor, "B D"], t: Float[Tensor, " B"]
) -> Float[Tensor, "B N"]:
    """p_{s|t}(. | x_t) of all N = S^D points, float64, rows of sum 1."""
    S, D = process.space.num_states, process.space.num_dims
    index = torch.arange(S**D, device=x_t.device)
    s, found = torch.full_like(t, call.s), []
    for part in index.split(POINTS):
        x = torch.stack(torch.unravel_index(part, (S,) * D), -1).expand(len(x_t), -1, -1)
        found.append(law.log_joint(x) if call.s == 0 else law.log_step(process, x_t, x, t, s))
    return torch.cat(found, 1).double().softmax(-1)


def _mixture_probs(
    law: MixtureLaw, call: Call, process: ForwardProcess, x_t: Int[Tensor, "B D"], t: Float[Tensor, " B"]
) -> Float[Tensor, "B L D S"]:
    """p_{s|t}(. | x_t; lam_l) of each position, float64, rows of sum 1."""
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
        assert joint is not None
        if trial.known is None:
            return {}
        law = law_of_plan(
            trial.known,
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

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if dataset.joint is None:
            raise ValueError("needs a data set with an exact joint, as toy is; leave it out")

    def build(self) -> TotalVariation:
        return TotalVariation(self.num_latents, self.chunk)
