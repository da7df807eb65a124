"""The components' laws at P sites, in whatever form they are at hand, and what is made of them there."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core import mixture
from di4c_cli.core.by_place import ByPlace


class Components(ABC):
    """L laws over S states at each of P sites, with the weights they have there."""

    @abstractmethod
    def marginal(self) -> Float[Tensor, "P S"]:
        """log sum_l w_l p_l(.)."""

    @abstractmethod
    def marginal_and_factors(
        self, x: Int[Tensor, "P N"]
    ) -> tuple[Float[Tensor, "P S"], Float[Tensor, "P L N"]]:
        """`marginal`, and log p_l(x_n) for the points of all who ask."""

    @abstractmethod
    def mixed(self, log_f: Float[Tensor, "P L N"]) -> Float[Tensor, "P N"]:
        """log sum_l w_l f_l."""

    @abstractmethod
    def log_expected(self, log_f: Float[Tensor, "P S"]) -> Float[Tensor, "P L"]:
        """log sum_k p_l(k) f(k)."""

    @abstractmethod
    def kl_from(self, log_p: Float[Tensor, "P S"]) -> Float[Tensor, " P"]:
        """sum_l w_l KL(p || p_l), nats."""

    @abstractmethod
    def subset(self, kept: Int[Tensor, " p"]) -> "Components":
        """Those at some of the sites."""


@dataclass(frozen=True)
class Listed(Components):
    """All log-probabilities are at hand; weights are equal."""

    log_p: Float[Tensor, "P L S"]

    def marginal(self) -> Float[Tensor, "P S"]:
        return mixture.log_marginal(self.log_p)

    def marginal_and_factors(
        self, x: Int[Tensor, "P N"]
    ) -> tuple[Float[Tensor, "P S"], Float[Tensor, "P L N"]]:
        return mixture.marginal_and_factors(self.log_p, x)

    def mixed(self, log_f: Float[Tensor, "P L N"]) -> Float[Tensor, "P N"]:
        return mixture.log_mean_exp(log_f, 1)

    def log_expected(self, log_f: Float[Tensor, "P S"]) -> Float[Tensor, "P L"]:
        return (self.log_p + log_f[:, None]).logsumexp(-1)

    def kl_from(self, log_p: Float[Tensor, "P S"]) -> Float[Tensor, " P"]:
        # The mean over components is taken first: it is all that they contribute.
        return mixture.kl(log_p, self.log_p.mean(1))

    def subset(self, kept: Int[Tensor, " p"]) -> "Listed":
        return Listed(self.log_p[kept])


@dataclass(frozen=True)
class Tilted(Components):
    """p_l(k) proportional to p(k) exp(c_l(k)): one base law, tilted by the tables of the site's place.

    Normalisers and marginals are matrix products, so no (P, L, S) tensor is ever made.
    """

    log_base: Float[Tensor, "P S"]
    tilts: Float[Tensor, "places S L"]
    """c."""
    factors: Float[Tensor, "places S L"]
    """exp(c)."""
    place: Int[Tensor, " P"]
    log_weights: Float[Tensor, "P L"]

    def marginal_and_factors(
        self, x: Int[Tensor, "P N"]
    ) -> tuple[Float[Tensor, "P S"], Float[Tensor, "P L N"]]:
        rows = self.place[:, None] * self.tilts.shape[1] + x
        tilt = nn.functional.embedding(rows, self.tilts.flatten(0, 1))  # (P, N, L)
        factors = self.log_base.gather(1, x)[..., None] + tilt - self._log_z[:, None]
        return self.marginal(), factors.transpose(1, 2)

    def marginal(self) -> Float[Tensor, "P S"]:
        shares = (self.log_weights - self._log_z).exp()
        return self.log_base + self._grouped.times(shares, self.factors.transpose(1, 2)).log()

    @cached_property
    def _grouped(self) -> "ByPlace":
        return ByPlace.of(self.place, len(self.tilts))

    @cached_property
    def _log_z(self) -> Float[Tensor, "P L"]:
        """Log-normalisers of the tilted laws."""
        return self._grouped.times(self.log_base.exp(), self.factors).log()

    def mixed(self, log_f: Float[Tensor, "P L N"]) -> Float[Tensor, "P N"]:
        return (self.log_weights[..., None] + log_f).logsumexp(1)

    def log_expected(self, log_f: Float[Tensor, "P S"]) -> Float[Tensor, "P L"]:
        log_p = self.log_base + log_f
        top = log_p.detach().amax(-1, keepdim=True)
        inner = self._grouped.times((log_p - top).exp().to(self.factors.dtype), self.factors)
        return inner.log() + top - self._log_z

    def kl_from(self, log_p: Float[Tensor, "P S"]) -> Float[Tensor, " P"]:
        gained = self._grouped.times(log_p.exp(), self.tilts) - self._log_z
        return mixture.kl(log_p, self.log_base) - (self.log_weights.exp() * gained).sum(-1)

    def subset(self, kept: Int[Tensor, " p"]) -> "Tilted":
        return replace(
            self, log_base=self.log_base[kept], place=self.place[kept], log_weights=self.log_weights[kept]
        )
