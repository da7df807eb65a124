"""Temperature as a wrapper: the trade of diversity for sharpness, along which models are to be compared."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.denoiser import Denoiser, ProductDenoiser
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import Plan
from di4c_cli.core.samplers._kept import once_each
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import NEVER


class Tempered(ProductDenoiser):
    """p^(1/T), renormalised position by position. What is impossible or settled stays so."""

    law_known = False
    """A mixture's is known by its draws alone."""

    def __init__(self, denoiser: Denoiser, temperature: float) -> None:
        self.denoiser = denoiser
        self.temperature = temperature
        self.calls: int = getattr(denoiser, "calls", 1)

    def __call__(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ProductLaw:
        """Raises ValueError without a generator."""
        if generator is None:
            raise ValueError("a tempered mixture draws its component")
        law = self.denoiser(x_t, t, label, generator=generator)

        def read(sites: Sites) -> Float[Tensor, "P S"]:
            log_p = law.read(sites)
            never = log_p <= NEVER / 2
            possible = (log_p / self.temperature).masked_fill(never, -math.inf)
            return possible.log_softmax(-1).masked_fill(never, NEVER)

        return ProductLaw(read, law.sites, law.num_states, law.settled)


def at_temperature(plan: Plan, temperature: float) -> Plan:
    """The plan with the laws of every call tempered; at T = 1 the very same."""
    if temperature == 1:
        return plan
    denoisers = once_each([call.denoiser for call in plan], lambda d: Tempered(d, temperature))
    return [replace(call, denoiser=denoiser) for call, denoiser in zip(plan, denoisers, strict=True)]
