"""What a sampling run keeps between its calls: lambda, or a law that no step has changed."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.denoiser import Denoiser, ProductDenoiser
from di4c_cli.core.product_law import KeptLaw, ProductLaw


class FixedLatent(ProductDenoiser):
    """A denoiser with lambda drawn once for each sample: every call sees the same stream of noise."""

    def __init__(self, denoiser: Denoiser, seed: int) -> None:
        self.denoiser = denoiser
        self.seed = seed

    def __call__(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ProductLaw:
        return self.denoiser(x_t, t, label, generator=torch.Generator(x_t.device).manual_seed(self.seed))


class Cached(ProductDenoiser):
    """The last law once more, where x_t is what it was then: exact for a denoiser that sees no time."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.last: tuple[Tensor, ProductLaw] | None = None

    def __call__(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ProductLaw:
        assert generator is not None  # a sampling run gives every call one
        if self.last is None or not torch.equal(self.last[0], x_t):
            law = self.denoiser(x_t, t, label, generator=generator)
            law = KeptLaw(law.table.whole, law.sites, law.settled)
            self.last = (x_t, law)
        return self.last[1]


def once_each(denoisers: list[Denoiser], wrap: Callable[[Denoiser], Denoiser]) -> list[Denoiser]:
    """Every denoiser wrapped; where one stands twice, so does its wrapper."""
    wrapped = {id(denoiser): wrap(denoiser) for denoiser in denoisers}
    return [wrapped[id(denoiser)] for denoiser in denoisers]
