"""Ancestral sampling: draw x_0 from the law, then x_s from the exact posterior (tauLDR's "analytical")."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import samplers
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw


class Ancestral(samplers.Sampler):
    """x_0 ~ p(. | x_t), x_s ~ q_{s|0,t}(. | x_0, x_t): exact for the law given, at any step length."""

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
        t, s = (samplers.per_row(time, x_t).repeat_interleave(num) for time in (t, s))
        rows = x_t.repeat_interleave(num, 0)
        revealed = self.process.revealed(rows, t, s, generator)
        if revealed is None:
            x_0 = law.draw(generator, num).flatten(0, 1)
            return self.process.sample_posterior(x_0, rows, t, s, generator).unflatten(0, (-1, num))
        x_0 = law.draw(generator, num, revealed.unflatten(0, (-1, num))).flatten(0, 1)
        return torch.where(revealed, x_0, rows).unflatten(0, (-1, num))


class Config(samplers.Config):
    """Exact-posterior sampling."""

    def build(self, process: ForwardProcess) -> Ancestral:
        return Ancestral(process)
