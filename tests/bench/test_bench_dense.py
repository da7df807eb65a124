"""The dense comparison computes what our losses compute: values and gradients, from the same points."""

from dataclasses import replace

import pytest
import torch

from di4c_cli.bench.dense import DenseSegment, ancestral_step, dense_of, foreign
from di4c_cli.bench.subject import Trial
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.losses import consistency, datapoint, distillation, evaluated, marginal, sdtt
from di4c_cli.core.networks.mlp import Config as MLP
from di4c_cli.core.parameterization import build as parameterized
from di4c_cli.core.processes import gaussian, masked, uniform
from di4c_cli.core.samplers.ancestral import Ancestral
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import Batch, StateSpace, stratified

B, L, D, S = 3, 4, 6, 5
LOSSES = {
    "marginal": marginal.Config(weight=2.0),
    "datapoint": datapoint.Config(weight={"shape": "linear"}),
    "datapoint, joint": datapoint.Config(control_variate=False),
    "consistency": consistency.Config(weight={"shape": "sigmoid"}),
    "consistency, joint": consistency.Config(control_variate=False),
    "distillation": distillation.Config(),
    "distillation of some": distillation.Config(share=0.7),
}
SYSTEMS = {
    "masked": (masked.Config(), "subs"),
    "masked, free": (masked.Config(), "free"),
    "gaussian": (gaussian.Config(rate_sigma=2.0, target_sigma=3.0), "free"),
    "uniform": (uniform.Config(), "bayes"),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Told(MixtureDenoiser):
    """A student whose draws of lambda are given."""

    def law(self, x_t, t, label=None, *, generator, num_latents=1):
        return self.mixture(x_t, t, self.lam, label)

    def law_of_draws(self, x, t, label=None, *, generator):
        told = MixtureDenoiser(self.network, self.parameterization)
        told.forward = None
        return super().law_of_draws(x, t, label, generator=torch.Generator().manual_seed(self.seed))


def made(system, sections):
    """A trial in float64."""
    config, parameterization = SYSTEMS[system]
    process = config.build(StateSpace(shape=(D,), num_states=S))
    torch.manual_seed(0)
    network = MLP(width=8, depth=2, time=True, parameterization=parameterization)
    parts = parameterized(parameterization, process)
    student = Told(network.build(process.space, lam=True).double(), parts)
    teacher = NetworkDenoiser(network.build(process.space, lam=False).double(), parts)
    cast = Cast(
        process=process,
        student=student,
        num_latents=L,
        teacher=teacher.requires_grad_(False),
        teacher_sampler=Ancestral(process),
    )
    batch = Batch(torch.randint(S, (B, D), generator=generator()))
    t = torch.tensor([0.3, 0.6, 0.95], dtype=torch.float64)
    return Trial.of(cast, sections, batch, t, t / 2)
