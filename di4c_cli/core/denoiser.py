"""The one seam: a denoiser maps (x_t, t) to a law of x_0. Teachers and students are denoisers alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core.law import Law, MixtureLaw, MixtureOfRows
from di4c_cli.core.networks import Network
from di4c_cli.core.parameterization import BayesSkip, Parameterization
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import stratified, uniform


@runtime_checkable
class Denoiser(Protocol):
    """p_{0|t}(x_0 | x_t). Where the model has latents, they are drawn here, from the generator given."""

    def __call__(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
    ) -> ProductLaw:
        """One product law a row, for samplers: the model's own, or that of a freshly drawn component."""
        ...

    def law(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
        num_latents: int = 1,
    ) -> Law:
        """The joint law, estimated with `num_latents` draws where it is not known exactly."""
        ...

    def law_of_draws(
        self,
        x: Int[Tensor, "B N D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
    ) -> MixtureOfRows:
        """The equal mixture of N product laws, one at each of N points of a datum: a consistency target."""
        ...


@runtime_checkable
class Alternating(Protocol):
    """A denoiser that differs from call to call of a sampling run."""

    def turn(self, call: int) -> Denoiser:
        """The one for a call, counted from 0."""
        ...


class ProductDenoiser(ABC):
    """A denoiser without latents: the joint laws follow from the one product law of each row."""

    @abstractmethod
    def __call__(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ProductLaw:
        """The model's law of each row; nothing is drawn."""

    def law(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
        num_latents: int = 1,
    ) -> MixtureLaw:
        product = self(x_t, t, label)
        return MixtureLaw(
            lambda sites: product.read(sites)[:, None], product.sites, 1, product.num_states, product.settled
        )

    def law_of_draws(
        self,
        x: Int[Tensor, "B N D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> MixtureOfRows:
        return _law_of_rows(lambda rows, times, labels: self(rows, times, labels), x, t, label)


class NetworkDenoiser(nn.Module, ProductDenoiser):
    """A product-model denoiser: network and parameterization, no latent."""

    def __init__(self, network: Network, parameterization: Parameterization) -> None:
        super().__init__()
        self.network = network
        self.parameterization = parameterization

    @property
    def sees_time(self) -> bool:
        """Whether the laws depend on t: a time-free network under the Bayes skip still does."""
        return self.network.sees_time or isinstance(self.parameterization, BayesSkip)

    def forward(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ProductLaw:
        h = self.network.hidden(x_t, t, label)
        return law_of_features(self.network, self.parameterization, h, x_t, t)


class MixtureDenoiser(nn.Module):
    """Di4C's student: E_lam[ prod_d p^d_{0|t}(x_0^d | x_t; lam) ] with lam uniform on [0, 1] (Section 3.1).

    One scalar lam for a whole sequence, fresh at every call; the methods that take `lam` are deterministic.
    """

    def __init__(self, network: Network, parameterization: Parameterization) -> None:
        super().__init__()
        self.network = network
        self.parameterization = parameterization

    @property
    def sees_time(self) -> bool:
        """See `NetworkDenoiser`."""
        return self.network.sees_time or isinstance(self.parameterization, BayesSkip)

    def mixture(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        lam: Float[Tensor, "B L"],
        label: Int[Tensor, " B"] | None = None,
    ) -> MixtureLaw:
        """The mixture of the components at the given values of lambda."""
        h = self.network.hidden(x_t, t, label, lam)

        def read(sites: Sites) -> Float[Tensor, "P L S"]:
            logits = self.network.head(h, sites)
            return self.parameterization(logits, sites.at(x_t)[:, None], t[sites.row][:, None])

        sites, settled = _open_sites(self.parameterization, x_t)
        return MixtureLaw(read, sites, lam.shape[1], self.network.space.num_states, settled)

    def forward(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
    ) -> ProductLaw:
        return self.component(x_t, t, uniform(len(x_t), generator=generator, device=x_t.device), label)

    def component(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        lam: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
    ) -> ProductLaw:
        """The product law of each row at its own lambda."""
        law = self.mixture(x_t, t, lam[:, None], label)
        return ProductLaw(lambda sites: law.read(sites)[:, 0], law.sites, law.num_states, law.settled)

    def law(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
        num_latents: int = 1,
    ) -> MixtureLaw:
        return self.mixture(x_t, t, stratified(len(x_t), num_latents, generator, x_t.device), label)

    def law_of_draws(
        self,
        x: Int[Tensor, "B N D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
    ) -> MixtureOfRows:
        lam = stratified(x.shape[0], x.shape[1], generator, x.device).flatten()
        return _law_of_rows(lambda rows, times, labels: self.component(rows, times, lam, labels), x, t, label)


def law_of_features(
    network: Network,
    parameterization: Parameterization,
    h: Float[Tensor, "B 1 ..."],
    x_t: Int[Tensor, "B D"],
    t: Float[Tensor, " B"],
) -> ProductLaw:
    """What a network's head and the parameterization make of a body's features."""

    def read(sites: Sites) -> Float[Tensor, "P S"]:
        logits = network.head(h, sites)[:, 0]
        return parameterization(logits, sites.at(x_t), t[sites.row])

    sites, settled = _open_sites(parameterization, x_t)
    return ProductLaw(read, sites, network.space.num_states, settled)


def _open_sites(
    parameterization: Parameterization, x_t: Int[Tensor, "B D"]
) -> tuple[Sites, Int[Tensor, "B D"] | None]:
    """Where x_0 is open, and what it is elsewhere."""
    open_ = parameterization.open(x_t)
    if open_ is None:
        return Sites.everywhere(x_t.shape[0], x_t.shape[1], x_t.device), None
    return Sites.where(open_), x_t


def _law_of_rows(
    denoise: Callable[[Tensor, Tensor, Tensor | None], ProductLaw],
    x: Int[Tensor, "B N D"],
    t: Float[Tensor, " B"],
    label: Int[Tensor, " B"] | None,
) -> MixtureOfRows:
    """Denoise the N points of each datum as rows, and read the result as one mixture for each datum."""
    N = x.shape[1]
    labels = None if label is None else label.repeat_interleave(N)
    return MixtureOfRows(denoise(x.flatten(0, 1), t.repeat_interleave(N), labels), N)
