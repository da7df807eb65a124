"""One optimiser step of the distillation, and its losses alone on features that are given."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.bench.subject import Trial
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.losses import evaluated
from di4c_cli.core.networks import Network
from di4c_cli.core.optimisation import Config as Train
from di4c_cli.core.segment import Segment
from di4c_cli.core.sites import Sites

Total = Callable[[Trial], Tensor]
"""The weighted loss (B,) of a trial, in one way or another."""


def ours(trial: Trial) -> Tensor:
    """As in training."""
    segment = Segment(trial.cast, trial.batch, trial.t, trial.s, trial.generator())
    values = evaluated([(term.loss, segment.restricted(term.rows)) for term in trial.terms])
    total = torch.zeros_like(trial.t)
    for term, value in zip(trial.terms, values, strict=True):
        total = total.index_add(0, term.rows, term.w[term.rows] * value)
    return total


class Step:
    """Loss, gradient and optimiser step, at a learning rate of 0: the weights stay, the cost is the same."""

    def __init__(self, student: nn.Module, train: Train) -> None:
        self.student = student.train()
        self.optimizer = torch.optim.AdamW(
            [p for p in student.parameters() if p.requires_grad], lr=0.0, betas=train.betas, fused=True
        )
        for p in student.parameters():  # the moments are there before anything is measured
            p.grad = torch.zeros_like(p)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self, total: Total, trial: Trial) -> None:
        backward(total, trial)
        self.optimizer.step()
        self.optimizer.zero_grad()


def backward(total: Total, trial: Trial) -> None:
    """The gradient of the mean loss, with the same dropout at every call."""
    torch.manual_seed(0)
    total(trial).mean().backward()


class Losses:
    """The losses of a trial and their gradient, without the bodies of the networks."""

    def __init__(self, trial: Trial) -> None:
        cast = trial.cast
        student, teacher = (_without_body(denoiser, trial) for denoiser in (cast.student, cast.teacher))
        self.trial = replace(trial, cast=replace(cast, student=student, teacher=teacher))

    def __call__(self, total: Total) -> None:
        backward(total, self.trial)
        self.trial.cast.student.zero_grad()


def _without_body(denoiser: Any, trial: Trial) -> Any:
    """The same denoiser on given features; one that is no network stays as it is."""
    if not isinstance(denoiser, NetworkDenoiser | MixtureDenoiser):
        return denoiser
    x, t, label = trial.batch.x_0[:1], trial.t[:1], trial.batch.label
    lam = t[:, None] if isinstance(denoiser, MixtureDenoiser) else None
    with torch.no_grad():
        example = denoiser.network.hidden(x, t, None if label is None else label[:1], lam)
    network = GivenFeatures(denoiser.network, example)
    return type(denoiser)(network, denoiser.parameterization).train(denoiser.training)


class GivenFeatures(Network):
    """A network whose body costs nothing: the features are the same for all rows."""

    def __init__(self, network: Network, example: Float[Tensor, "1 1 ..."]) -> None:
        super().__init__()
        self.network = network
        self.space = network.space
        self.example = example
        self.kept: dict[tuple[int, int], Tensor] = {}

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L ..."]:
        rows = (len(x), 1 if lam is None else lam.shape[1])
        if rows not in self.kept:
            self.kept[rows] = self.example.expand(*rows, *self.example.shape[2:]).clone()
        return self.kept[rows].detach().requires_grad_(torch.is_grad_enabled())

    def head(self, h: Float[Tensor, "B L ..."], sites: Sites) -> Float[Tensor, "P L S"]:
        return self.network.head(h, sites)
