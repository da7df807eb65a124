"""How the components of a law come together: which positions share one, and with what weights."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import mixture
from di4c_cli.core.coupling import Coupling
from di4c_cli.core.sites import Sites
from di4c_cli.core.windows import Windows


class Mixing(ABC):
    """Sums of a component's log-factors over the positions that share it, and what the sums say."""

    @abstractmethod
    def total(self, sites: Sites, log_f: Float[Tensor, "P L N"]) -> Float[Tensor, "B ..."]:
        """The sums, of the given sites."""

    @abstractmethod
    def log_joint(self, sums: Float[Tensor, "B ... L N"]) -> Float[Tensor, "B N"]:
        """The joint log-likelihood of N points, from their sums over all sites."""

    @abstractmethod
    def effective_components(self, sums: Float[Tensor, "B ... L N"]) -> Float[Tensor, "B N"]:
        """exp(entropy) of the components' responsibilities at each point."""

    @abstractmethod
    def among(self, rows: Int[Tensor, " b"]) -> "Mixing":
        """The same for some of the data points."""


class Even(Mixing):
    """One component for all positions, all L equally probable: draws of the paper's scalar lambda."""

    def total(self, sites: Sites, log_f: Float[Tensor, "P L N"]) -> Float[Tensor, "B L N"]:
        return sites.total(log_f)

    def log_joint(self, sums: Float[Tensor, "B L N"]) -> Float[Tensor, "B N"]:
        return mixture.log_joint(sums)

    def effective_components(self, sums: Float[Tensor, "B L N"]) -> Float[Tensor, "B N"]:
        return mixture.effective_components(sums)

    def among(self, rows: Int[Tensor, " b"]) -> "Even":
        return self


@dataclass(frozen=True)
class Windowed(Mixing):
    """One component for each window, with potentials, coupled from window to window."""

    windows: Windows
    u: Float[Tensor, "B W M"]
    coupling: Coupling

    @cached_property
    def log_weights(self) -> Float[Tensor, "B W M"]:
        """log p(j_w | x_t) of each window."""
        return self.coupling.log_marginals(self.u)

    def at(self, sites: Sites) -> Float[Tensor, "P M"]:
        """The weights of the components at the sites."""
        return self.log_weights.flatten(0, 1).index_select(0, self._cell(sites))

    def _cell(self, sites: Sites) -> Int[Tensor, " P"]:
        return sites.row * self.windows.num + self.windows.window[sites.position]

    def total(self, sites: Sites, log_f: Float[Tensor, "P M N"]) -> Float[Tensor, "B W M N"]:
        # Not in float64, as sums over all positions are: a window holds few.
        B, W = self.u.shape[:2]
        return (
            log_f.new_zeros(B * W, *log_f.shape[1:])
            .index_add(0, self._cell(sites), log_f)
            .unflatten(0, (B, W))
        )

    def log_joint(self, sums: Float[Tensor, "B W M N"]) -> Float[Tensor, "B N"]:
        u = self.u[..., None]
        return self.coupling.log_total(u + sums.to(u.dtype)) - self.coupling.log_total(u)

    def effective_components(self, sums: Float[Tensor, "B W M N"]) -> Float[Tensor, "B N"]:
        """The mean over the windows."""
        found = []
        for n in range(sums.shape[-1]):
            shares = self.coupling.log_marginals(self.u + sums[..., n].to(self.u.dtype)).exp()
            found.append(torch.special.entr(shares).sum(-1).exp().mean(1))
        return torch.stack(found, 1)

    def among(self, rows: Int[Tensor, " b"]) -> "Windowed":
        return Windowed(self.windows, self.u[rows], self.coupling)
