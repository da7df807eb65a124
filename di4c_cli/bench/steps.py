"""One optimiser step of the distillation, and its losses alone on features that are given."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.bench.subject import Trial
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.networks import Network
from di4c_cli.core.segment import Segment
from di4c_cli.core.trainer import Config as Train

Total = Callable[[Trial], Tensor]
"""The weighted loss (B,) of a trial, in one way or another."""
PROGRESS = 0.5  # of the training, for weights that change in its course


def ours(trial: Trial) -> Tensor:
    """As in training."""
    segment = Segment(trial.cast, trial.batch, trial.t, trial.s, trial.generator())
    total = torch.zeros_like(trial.t)
    for section in trial.losses:
        w = section.weight.at(trial.t, PROGRESS)
        rows = w.nonzero().squeeze(1)
        if len(rows):
            total = total.index_add(0, rows, w[rows] * section.build()(segment.restricted(rows)))
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
        self.trial = replace(
            trial,
            cast=replace(cast, student=_without_body(cast.student), teacher=_without_body(cast.teacher)),
        )

    def __call__(self, total: Total) -> None:
        backward(total, self.trial)
        self.trial.cast.student.zero_grad()


def _without_body(denoiser: Any) -> Any:
    """The same denoiser on given features; one that is no network stays as it is."""
    if not isinstance(denoiser, NetworkDenoiser | MixtureDenoiser):
        return denoiser
    return type(denoiser)(GivenFeatures(denoiser.network), denoiser.parameterization).train(denoiser.training)


class GivenFeatures(Network):
    """A network whose body costs nothing: its features are those of the first call with as many rows."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.kept: dict[tuple[int, ...], Tensor] = {}

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L ..."]:
        rows = (len(x), *(() if lam is None else lam.shape))
        if rows not in self.kept:
            with torch.no_grad():
                self.kept[rows] = self.network.body(x, t, label, lam)
        return self.kept[rows].detach().requires_grad_(torch.is_grad_enabled())

    def head(self, h: Float[Tensor, "B L ..."], positions: slice) -> Float[Tensor, "B L d S"]:
        return self.network.head(h, positions)
