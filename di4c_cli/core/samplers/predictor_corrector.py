"""Predictor-corrector tau-leaping (tauLDR, Section 4.4): leaps that keep q_t, between those that lower t."""

from collections.abc import Collection

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import samplers
from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw, Table
from di4c_cli.core.samplers import Call, Plan
from di4c_cli.core.samplers.tau_leaping import TauLeaping
from di4c_cli.core.sites import Sites


class PredictorCorrector(TauLeaping):
    """Tau-leaping, and correctors at rate R_t + reverse rate: a chain whose stationary law is q_t."""

    def correct(
        self, law: ProductLaw, x_t: Int[Tensor, "B D"], t: float, leap: float, generator: torch.Generator
    ) -> Int[Tensor, "B D"]:
        times, x = samplers.per_row(t, x_t), x_t.clone()
        # Settled positions take part: the forward chain leaves them again.
        everywhere = Sites.everywhere(x_t.shape[0], x_t.shape[1], x_t.device)
        for part, log_p in Table(law.read, everywhere, 1, law.num_states).pieces():
            here, at = part.at(x_t)[:, None], times[part.row]
            rates: Float[Tensor, "P 1 S"] = self.process.reverse_rates(log_p[:, None], here, at)
            rates = rates + self.process.forward_rates(here, at)
            x[part.row, part.position] = self.leap(here, rates * leap, generator)[:, 0]
        return x


class Config(samplers.Config):
    """Tau-leaping with corrector leaps at small t."""

    correctors: int = Field(10, ge=1)
    """Corrector leaps after each step; each is a network call, counted in the NFE beside the K steps."""
    correct_below: float = Field(0.1, gt=0, le=1)
    """Largest t at which there are any."""
    corrector_length: float = Field(1.5, gt=0)
    """Length of a corrector's leap, in steps."""

    def build(self, process: ForwardProcess) -> PredictorCorrector:
        return PredictorCorrector(process)

    def plan(
        self,
        steps: int,
        model: Denoiser,
        teacher: Denoiser | None = None,
        by_teacher: Collection[int] = (),
    ) -> Plan:
        calls: list[Call] = []
        for call in super().plan(steps, model, teacher, by_teacher):
            calls.append(call)
            if 0 < call.s <= self.correct_below:
                leap = self.corrector_length * (call.t - call.s)
                calls += [Call(call.denoiser, call.s, call.s, leap)] * self.correctors
        return calls
