"""Tau-leaping: hold the reverse rates fixed over a step and count the jumps (tauLDR, Section 4.3)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import samplers
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.space import sample_categorical, uniform


class TauLeaping(samplers.Sampler):
    """Ordered states: all jumps of the step are added and clamped. Others: at most one jump a position."""

    def __init__(self, process: ForwardProcess) -> None:
        self.process = process

    def step(
        self,
        law: ProductLaw,
        x_t: Int[Tensor, "B D"],
        t: float | Float[Tensor, " B"],
        s: float | Float[Tensor, " B"],
        generator: torch.Generator,
        num: int = 1,
    ) -> Int[Tensor, "B {num} D"]:
        t, s = samplers.per_row(t, x_t), samplers.per_row(s, x_t)
        x_s = x_t[:, :, None].repeat(1, 1, num)
        for part, log_p in law.table.pieces():  # where x_t settles x_0, nothing jumps
            x, row = part.at(x_t)[:, None], part.row
            rates = self.process.reverse_rates(log_p[:, None], x, t[row]) * (t - s)[row, None, None]
            expected = rates.expand(-1, num, -1)  # jumps x_t -> k
            x_s[row, part.position] = self.leap(x.expand(-1, num), expected, generator)
        return x_s.transpose(1, 2)

    def leap(
        self, x: Int[Tensor, "P N"], expected: Float[Tensor, "P N S"], generator: torch.Generator
    ) -> Int[Tensor, "P N"]:
        """Where x is after a leap with that many expected jumps to each state."""
        jump = self._all_jumps if self.process.ordinal else self._one_jump
        return jump(x, expected, generator)

    def _all_jumps(self, x: Tensor, expected: Tensor, generator: torch.Generator) -> Tensor:
        jumps = torch.poisson(expected.to(generator.device), generator).to(x.device)
        states = torch.arange(expected.shape[-1], device=x.device)
        moved = x + (jumps * (states - x[..., None])).sum(-1).round().long()
        return moved.clamp(0, expected.shape[-1] - 1)

    def _one_jump(self, x: Tensor, expected: Tensor, generator: torch.Generator) -> Tensor:
        """The first jump of the step, where there is one: P(none) = exp(-total)."""
        total = expected.sum(-1)
        jump = uniform(*x.shape, generator=generator, device=x.device) >= torch.exp(-total)
        target = sample_categorical(expected.clamp(min=1e-300).log(), generator).squeeze(-1)
        return torch.where(jump & (total > 0), target, x)


class Config(samplers.Config):
    """Tau-leaping."""

    def build(self, process: ForwardProcess) -> TauLeaping:
        return TauLeaping(process)
