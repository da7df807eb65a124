"""MaskGIT's confidence sampler (arXiv 2202.04200): draw everything, keep what the model is surest of.

Not the reverse of the masking process: positions are revealed by noisy confidence, not at random.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import samplers
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers._reveal import best_ranked, masked_process
from di4c_cli.core.space import uniform


class MaskGIT(samplers.Sampler):
    """x_0^d ~ p^d, confidence = log p^d(x_0^d) + c Gumbel; the n highest of the masked ones stay.

    A step from t to s is one of a uniform grid of K = 1 / (t - s): its place among them, from 0 to 1, is
    (1 - t) / (1 - (t - s)), and c falls from `noise` to 0 with it.
    """

    def __init__(self, process: ForwardProcess, config: "Config") -> None:
        self.process = masked_process(process, "maskgit")
        self.config = config

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
        masked = self.process.open(x_t)[:, None].expand(-1, num, -1)
        x_0, confidence = law.scored(generator, num, masked)
        u = uniform(*x_0.shape, generator=generator, device=x_t.device)
        gumbel = -torch.log(-torch.log(u.clamp(min=1e-300)))
        score = confidence + self.noise(t, s)[:, None, None] * gumbel
        count = self.count(x_t, t, s).repeat_interleave(num)
        revealed = best_ranked(masked.flatten(0, 1), score.flatten(0, 1), count).unflatten(0, (-1, num))
        return torch.where(revealed, x_0, x_t[:, None])

    def noise(self, t: Float[Tensor, " B"], s: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The factor of the Gumbel noise."""
        steps = self.config.noise_steps
        if steps is None:
            place = (1 - t) / (1 - (t - s)).clamp(min=1e-9)
        else:
            place = (1 - t) * (steps / max(1, steps - 1))
        return self.config.noise * (1 - (place if self.config.parity else place.clamp(max=1)))

    def count(
        self, x_t: Int[Tensor, "B D"], t: Float[Tensor, " B"], s: Float[Tensor, " B"]
    ) -> Int[Tensor, " B"]:
        """How many positions each step reveals."""
        D, masked = x_t.shape[1], (x_t == self.process.mask_id).sum(-1)
        if self.config.parity:
            visible = torch.floor(D * (1 - self.process.mask_prob(s)) + 1e-9).long()
            return (visible - (D - masked)).clamp(min=0)
        if self.config.schedule == "published":
            left = self._left(D, t, s)
        else:
            left = torch.round(D * self.process.mask_prob(s)).long()
        return (masked - left).clamp(min=1)

    def _left(self, D: int, t: Float[Tensor, " B"], s: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Masks left after a step of the published schedule: step k of K reveals a share m(k / (K - 1))."""
        steps = int((1 / (t - s).amin()).round())
        share = self.process.mask_prob(torch.linspace(0, 1, steps, dtype=torch.float64, device=t.device))
        revealed = torch.round(D * share / share.sum()).clamp(min=1).cumsum(0)
        revealed[-1] = D
        return (D - revealed[(1 - t).mul(steps).round().long().clamp(max=steps - 1)]).long()


class Config(samplers.Config):
    """Confidence sampling."""

    noise: float = Field(4.5, ge=0)
    """Gumbel noise on the confidence in the first step; 0 is greedy."""
    noise_steps: int | None = Field(None, ge=2)
    """K by whose grid the noise falls; unset: that of the step's own length. The paper's teacher step: 8."""
    schedule: Literal["masked", "published"] = "masked"
    """Masks left after a step: D m(s), or as the published 8-step figures of MaskGIT count them."""
    parity: bool = False
    """The reference's teacher step: rounds down, may reveal nothing, noise turns negative near t = 0."""

    def build(self, process: ForwardProcess) -> MaskGIT:
        return MaskGIT(process, self)
