"""Samplers: the same object steps the teacher in training and the student in `di4c sample`.

A file `<kind>.py` holds `Config(samplers.Config)` with `build(process) -> Sampler`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.law import ProductLaw
from di4c_cli.core.processes import ForwardProcess


class Sampler(ABC):
    """One reverse step t -> s, given the law of x_0."""

    @abstractmethod
    def step(
        self,
        law: ProductLaw,
        x_t: Int[Tensor, "B D"],
        t: float | Float[Tensor, " B"],
        s: float | Float[Tensor, " B"],
        generator: torch.Generator,
        num: int = 1,
    ) -> Int[Tensor, "B {num} D"]:
        """`num` draws of x_s for each x_t."""


def per_row(time: float | Tensor, x: Int[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """A time shared by the batch, or one for each row, as a float64 row vector."""
    return torch.as_tensor(time, dtype=torch.float64, device=x.device).expand(len(x))


@dataclass(frozen=True)
class Call:
    """One network call of a sampling run: `denoiser` steps from t to s."""

    denoiser: Denoiser
    t: float
    s: float


Plan = Sequence[Call]
"""The calls that make a sample, from t = 1 to s = 0; its length is the NFE."""


class Config(_Config, ABC):
    """What every sampler is told."""

    final: Literal["sample", "argmax"] = "sample"
    """Whether the last call draws x_0 or takes the most probable state of each position."""
    t_last: float | None = Field(None, gt=0, lt=1)
    """Time of the last of K calls: linspace(1, t_last, K), then 0 (the paper: 0.01); unset: K equal steps."""

    @abstractmethod
    def build(self, process: ForwardProcess) -> Sampler:
        """The component that this section describes."""

    def times(self, steps: int) -> list[float]:
        """The K + 1 times of a K-call run, from 1 down to 0."""
        if self.t_last is None or steps == 1:
            return [1 - k / steps for k in range(steps)] + [0.0]
        span = 1 - self.t_last
        return [1 - span * k / (steps - 1) for k in range(steps)] + [0.0]

    def plan(
        self, steps: int, model: Denoiser, teacher: Denoiser | None = None, teacher_steps: int = 0
    ) -> Plan:
        """K calls by `model`, the last `teacher_steps` of them by the teacher (hybrid)."""
        times = self.times(steps)
        last = [teacher] * teacher_steps if teacher is not None else []
        denoisers = [model] * (steps - len(last)) + last
        return [Call(d, t, s) for d, t, s in zip(denoisers, times, times[1:], strict=False)]


@torch.no_grad()
def sample(
    sampler: Sampler,
    plan: Plan,
    process: ForwardProcess,
    num: int,
    generator: torch.Generator,
    device: torch.device | str,
    *,
    final: str = "sample",
    label: Int[Tensor, " {num}"] | None = None,
) -> Int[Tensor, "{num} D"]:
    """Run a plan from the prior to x_0."""
    x = process.sample_prior(num, generator, device)
    for call in plan:
        law = call.denoiser(x, per_row(call.t, x), label, generator=generator)
        if call.s > 0:
            x = sampler.step(law, x, call.t, call.s, generator)[:, 0]
        else:
            x_0 = law.mode() if final == "argmax" else law.draw(generator)[:, 0]
            x = process.finish(x_0, x)
    return x
