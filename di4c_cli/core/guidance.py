"""Classifier-free guidance (arXiv 2207.12598) as a wrapper: two calls of a denoiser read as one."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.denoiser import Denoiser, MixtureDenoiser, ProductDenoiser
from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import Plan
from di4c_cli.core.sites import Sites

L = TypeVar("L")


class Guided(ProductDenoiser):
    """log p proportional to (1 + w) log p(. | label) - w log p(. | no label), position by position.

    Both calls see the same draw of lambda: the generator is put back between them.
    """

    calls = 2

    def __init__(self, denoiser: Denoiser, scale: float, num_classes: int) -> None:
        self.denoiser = denoiser
        self.scale = scale
        self.no_label = num_classes
        # The weights of windowed components depend on the label: the two calls may draw different ones.
        self.law_known = isinstance(denoiser, ProductDenoiser | MixtureDenoiser)

    def __call__(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ProductLaw:
        """Raises ValueError without a label or a generator."""
        with_label, without = self._both(self.denoiser, x_t, t, label, generator)
        return ProductLaw(
            self._read(with_label, without), with_label.sites, with_label.num_states, with_label.settled
        )

    def law(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
        num_latents: int = 1,
    ) -> MixtureLaw:
        """Component by component, as a sampler draws them. Raises ValueError as a call does."""
        asked = partial(self.denoiser.law, num_latents=num_latents)
        with_label, without = self._both(asked, x_t, t, label, generator)
        if not (isinstance(with_label, MixtureLaw) and isinstance(without, MixtureLaw)):
            raise ValueError("the law of windowed components is not known under guidance")
        num = with_label.num_components, with_label.num_states
        return MixtureLaw(self._read(with_label, without), with_label.sites, *num, with_label.settled)

    def _both(
        self,
        ask: Callable[..., L],
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None,
        generator: torch.Generator | None,
    ) -> tuple[L, L]:
        if label is None or generator is None:
            raise ValueError("guidance needs a class label")
        state = generator.get_state()
        with_label = ask(x_t, t, label, generator=generator)
        generator.set_state(state)
        return with_label, ask(x_t, t, torch.full_like(label, self.no_label), generator=generator)

    def _read(
        self, with_label: ProductLaw | MixtureLaw, without: ProductLaw | MixtureLaw
    ) -> Callable[[Sites], Float[Tensor, "P ... S"]]:
        w = self.scale
        return lambda sites: ((1 + w) * with_label.read(sites) - w * without.read(sites)).log_softmax(-1)


class Config(_Config):
    """How strongly samples are drawn towards their class."""

    scale: float = Field(0.0, ge=0)
    """Guidance weight w; 0 leaves the second call out."""
    ramp: Literal["constant", "linear"] = "constant"
    """The same w in every call, or growing from 0 in the first to w in the last (MaskGIT)."""

    def over(self, plan: Plan, num_classes: int) -> Plan:
        """The plan with every call guided; calls of weight 0 stay single."""
        last = len(plan) - 1
        weights = [
            self.scale * (k / last if last and self.ramp == "linear" else 1.0) for k in range(len(plan))
        ]
        return [
            replace(call, denoiser=Guided(call.denoiser, w, num_classes)) if w else call
            for call, w in zip(plan, weights, strict=True)
        ]
