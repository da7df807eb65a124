"""Samplers: the same object steps the teacher in training and the student in `di4c sample`.

A file `<kind>.py` holds `Config(samplers.Config)` with `build(process) -> Sampler`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.denoiser import Alternating, Denoiser, ProductDenoiser
from di4c_cli.core.hand_over import HandedOver
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers._kept import Cached, FixedLatent, once_each

Final = Literal["sample", "argmax"]


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

    def correct(
        self,
        law: ProductLaw,
        x_t: Int[Tensor, "B D"],
        t: float,
        leap: float,
        generator: torch.Generator,
    ) -> Int[Tensor, "B D"]:
        """A corrector's leap at time t, which leaves q_t as it is; only samplers that plan one have it."""
        raise NotImplementedError


def per_row(time: float | Tensor, x: Int[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """A time shared by the batch, or one for each row, as a float64 row vector."""
    return torch.as_tensor(time, dtype=torch.float64, device=x.device).expand(len(x))


@dataclass(frozen=True)
class Call:
    """One call of a sampling run: `denoiser` steps from t to s."""

    denoiser: Denoiser
    t: float
    s: float
    leap: float | None = None
    """Length of a corrector's leap at t = s, in place of a step."""


Plan = Sequence[Call]
"""The calls that make a sample, from t = 1 to s = 0."""


def network_calls(plan: Plan) -> int:
    """NFE: network calls for one sample, both of a guided call counted."""
    return sum(getattr(call.denoiser, "calls", 1) for call in plan)


class Config(_Config, ABC):
    """What every sampler is told."""

    final: Final = "sample"
    """Whether the last call draws x_0 or takes the most probable state of each position."""
    t_last: float | None = Field(None, gt=0, lt=1)
    """Time of the last of K calls: linspace(1, t_last, K), then 0 (the paper: 0.01); unset: K equal steps."""
    latent: Literal["fresh", "fixed"] = "fresh"
    """Lambda for each sample: new at every call (the paper), or one for the whole run."""
    by_teacher: list[HandedOver] = Field([], max_length=64)
    """Calls of a student's run that its teacher makes, by number of steps: `di4c hand-over` finds them."""
    compile: bool = False
    """Compile the networks for `sample` and `eval` (CUDA graphs on a GPU): pays off over many batches."""
    cache: bool = False
    """Call the network only where a step changed something: exact if it sees no time and lambda is fixed."""

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
        self,
        steps: int,
        model: Denoiser,
        teacher: Denoiser | None = None,
        by_teacher: Collection[int] = (),
    ) -> Plan:
        """K calls by `model`, those numbered in `by_teacher` (from 0) by the teacher.

        Raises:
            ValueError: `cache` where calls would differ.
        """
        times = self.times(steps)
        denoisers = [teacher if teacher is not None and k in by_teacher else model for k in range(steps)]
        for denoiser in denoisers if self.cache else []:
            latent = self.latent == "fresh" and not isinstance(denoiser, ProductDenoiser)
            if latent or getattr(denoiser, "sees_time", True):
                raise ValueError(
                    'cache is exact only for networks that see no time, and with latent = "fixed"'
                )
        spans = zip(denoisers, times, times[1:], strict=False)
        return [
            Call(d.turn(k) if isinstance(d, Alternating) else d, t, s) for k, (d, t, s) in enumerate(spans)
        ]


@torch.no_grad()
def sample(
    sampler: Sampler,
    plan: Plan,
    process: ForwardProcess,
    num: int,
    generator: torch.Generator,
    device: torch.device | str,
    *,
    config: Config | None = None,
    label: Int[Tensor, " {num}"] | None = None,
    known: Int[Tensor, " D"] | None = None,
    alive: Callable[[], None] = lambda: None,
) -> Int[Tensor, "{num} D"]:
    """Run a plan from the prior to x_0.

    Args:
        alive: called after every call.
        config: how the run ends and what it keeps; unset: the last call draws, nothing is kept.
        known: states that are given, -1 where a position is free; put back after every step.
    """
    x = _given(process.sample_prior(num, generator, device), known)
    for call in plan if config is None else _keeping(plan, config, generator):
        law = call.denoiser(x, per_row(call.t, x), label, generator=generator)
        if call.leap is not None:
            x = sampler.correct(law, x, call.t, call.leap, generator)
        elif call.s > 0:
            x = sampler.step(law, x, call.t, call.s, generator)[:, 0]
        else:
            x_0 = _ended(law, process, x, config, generator)
            x = process.finish(x_0, x)
        x = _given(x, known)
        alive()
    return x


def _ended(
    law: ProductLaw,
    process: ForwardProcess,
    x_t: Int[Tensor, "N D"],
    config: Config | None,
    generator: torch.Generator,
) -> Int[Tensor, "N D"]:
    """x_0 by the last call, at least where x_t does not settle it."""
    if config and config.final == "argmax":
        return law.mode()
    wanted = process.open(x_t)
    return law.draw(generator, where=None if wanted is None else wanted[:, None])[:, 0]


def _keeping(plan: Plan, config: Config, generator: torch.Generator) -> Plan:
    """The plan with lambda fixed or laws kept, as the config says; for one batch."""
    denoisers = [call.denoiser for call in plan]
    if config.latent == "fixed":
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        denoisers = once_each(denoisers, lambda denoiser: FixedLatent(denoiser, seed))
    if config.cache:
        denoisers = once_each(denoisers, Cached)
    return [replace(call, denoiser=denoiser) for call, denoiser in zip(plan, denoisers, strict=True)]


def _given(x: Int[Tensor, "N D"], known: Int[Tensor, " D"] | None) -> Int[Tensor, "N D"]:
    return x if known is None else torch.where(known >= 0, known, x)
