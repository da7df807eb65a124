"""Halton order (Halton-MaskGIT, arXiv 2503.17076): reveal positions spread over the grid, drawn from p.

The order depends on nothing that is sampled, so a step draws exactly from the law where it reveals.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import samplers
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers._reveal import best_ranked, masked_process


def radical_inverse(index: Int[Tensor, " n"], base: int) -> Float[Tensor, " n"]:
    """The digits of each index in `base`, mirrored at the point: van der Corput's sequence."""
    value, scale = torch.zeros(len(index), dtype=torch.float64), 1.0
    while index.any():
        scale /= base
        value += scale * (index % base)
        index = index // base
    return value


def halton_order(height: int, width: int) -> Int[Tensor, " cells"]:
    """Row-major cells in the order in which the 2-D Halton sequence (bases 2 and 3) first meets them."""
    num, order = 64, torch.empty(0, dtype=torch.int64)
    while len(order) < height * width:
        num *= 2
        index = torch.arange(1, num + 1)
        row = (radical_inverse(index, 2) * height).long()
        column = (radical_inverse(index, 3) * width).long()
        cells = (row * width + column).tolist()
        order = torch.tensor(list(dict.fromkeys(cells)))
    return order


class Halton(samplers.Sampler):
    """x_0^d ~ p^d at the next positions of the order, so that D (1 - m(s)) are visible at s."""

    def __init__(self, process: ForwardProcess) -> None:
        """Raises ValueError where there is no mask, or positions form neither a line nor a grid."""
        self.process = masked_process(process, "halton")
        shape = process.space.shape
        if len(shape) == 3 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) > 2:
            raise ValueError(f"sampler 'halton' needs one grid of positions, not {shape}")
        order = halton_order(*shape) if len(shape) == 2 else halton_order(shape[0], 1)
        self.place = torch.empty(len(order), dtype=torch.float64)
        self.place[order] = torch.arange(len(order), dtype=torch.float64)

    def step(
        self,
        law: ProductLaw,
        x_t: Int[Tensor, "B D"],
        t: float | Float[Tensor, " B"],
        s: float | Float[Tensor, " B"],
        generator: torch.Generator,
        num: int = 1,
    ) -> Int[Tensor, "B {num} D"]:
        s = samplers.per_row(s, x_t)
        D, masked = x_t.shape[1], (x_t == self.process.mask_id).sum(-1)
        visible = torch.floor(D * (1 - self.process.mask_prob(s)) + 1e-9).long()
        count = (visible - (D - masked)).clamp(min=1).repeat_interleave(num)
        rows = x_t.repeat_interleave(num, 0)
        first = -self.place.to(x_t.device).expand_as(rows)
        revealed = best_ranked(self.process.open(rows), first, count).unflatten(0, (-1, num))
        return torch.where(revealed, law.draw(generator, num, revealed), x_t[:, None])


class Config(samplers.Config):
    """Halton-ordered sampling."""

    def build(self, process: ForwardProcess) -> Halton:
        return Halton(process)
