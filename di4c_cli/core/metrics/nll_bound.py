"""Held-out negative log-likelihood of the K-step sampler, bounded from above: no collapse can lower it.

    -log p(x_0) <= E [ sum_k log q(x_s | x_0, x_t) - log p(x_s | x_t) ] - log p(x_0 | x_t of the last call)

over the chain x_1 ~ prior, x_s ~ q_{s|0,t}(. | x_0, x_t). The chain starts where the sampler starts, so no
term is left at t = 1; for the masked process it is the forward chain itself. The step law averages
`num_latents` draws of lambda; by Jensen the log of that average is low in expectation, so the figure stays
an upper bound. It is that of the ancestral sampler with a fresh lambda in every call, whatever sampler it is
that draws the samples.
"""

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import metrics
from di4c_cli.core.datasets import spread
from di4c_cli.core.metrics import Direction, PerItem, Trial
from di4c_cli.core.order import step_seed
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.samplers import Plan


def call_nats(
    plan: Plan,
    process: ForwardProcess,
    x_0: Int[Tensor, "B D"],
    chain: torch.Generator,
    latents: torch.Generator,
    num_latents: int,
    label: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B K"]:
    """One estimate of the bound's terms for each x_0, nats: what each call costs. Their sum is the bound.

    Args:
        chain: draws the noisy states; models that share its seed are compared on the same paths.
        latents: draws lambda.
    """
    x_t, nats = process.sample_prior(len(x_0), chain, x_0.device), []
    for call in plan:
        t = torch.full((len(x_0),), call.t, dtype=torch.float64, device=x_0.device)
        law = call.denoiser.law(x_t, t, label, generator=latents, num_latents=num_latents)
        if call.s == 0:
            nats.append(-law.log_joint(x_0[:, None])[:, 0])
            return torch.stack([term.double() for term in nats], 1)
        s = torch.full_like(t, call.s)
        x_s = process.sample_posterior(x_0, x_t, t, s, chain)
        nats.append(
            log_posterior(process, x_0, x_t, x_s, t, s)
            - law.log_step(process, x_t, x_s[:, None], t, s).squeeze(1)
        )
        x_t = x_s
    raise ValueError("a plan ends at s = 0")


def log_posterior(
    process: ForwardProcess,
    x_0: Int[Tensor, "B D"],
    x_t: Int[Tensor, "B D"],
    x_s: Int[Tensor, "B D"],
    t: Float[Tensor, " B"],
    s: Float[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """log q_{s|0,t}(x_s | x_0, x_t), nats."""
    return process.log_posterior(x_s, x_t, t, s).gather(-1, x_0[..., None]).sum((-2, -1))


class NllBound:
    """`nll_bound`: mean over held-out items, spread evenly over the split.

    `nll_bound_se`: its standard error over them, nats; a single item has none.
    """

    def __init__(self, num: int, num_latents: int, batch: int) -> None:
        self.directions: dict[str, Direction] = {"nll_bound": "lower", "nll_bound_se": "report"}
        self.num = num
        self.num_latents = num_latents
        self.batch = batch

    @torch.no_grad()
    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        if trial.known is None:
            return {}
        # Jensen's bound wants a lambda that knows nothing of the path: their seeds differ.
        seeds = trial.seed, step_seed(trial.seed, 1)
        chain, latents = (torch.Generator(trial.device).manual_seed(seed) for seed in seeds)
        items = spread(trial.dataset.test, self.num).to(trial.device)
        items = items.told(trial.process.space.num_classes, 0.0, chain)
        parts = [
            call_nats(trial.known, trial.process, part.x_0, chain, latents, self.num_latents, part.label)
            for part in (items[rows] for rows in torch.arange(len(items)).split(self.batch))
        ]
        bounds = torch.cat(parts).sum(1)
        figures: dict[str, float | PerItem] = {"nll_bound": PerItem.mean(bounds.cpu(), held_out=True)}
        if len(bounds) > 1:
            figures["nll_bound_se"] = bounds.std().item() / math.sqrt(len(bounds))
        return figures


class Config(metrics.Config):
    """Upper bound on the held-out negative log-likelihood of the ancestral K-step sampler, nats a sample."""

    num: int = Field(400, ge=1)
    """Held-out items."""
    num_latents: int = Field(64, ge=1)
    """Stratified draws of lambda for each item and step; more are tighter."""
    batch: int = Field(50, ge=1)
    """Items at a time."""

    def build(self) -> NllBound:
        return NllBound(self.num, self.num_latents, self.batch)
