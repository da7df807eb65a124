"""Networks: raw functions of (x_t, t, label, lambda); they know nothing of processes.

A network is a body and a head, so that a law can be read by slices of positions: `head(h, positions)` turns
features into logits of those positions only. `lam (B, L)` holds L draws for each of B data points; a network
is free to compute what does not depend on lambda once for each data point. Without lambda, L is 1.

A file `<kind>.py` holds `Config(networks.Config)` with `build(space, lam) -> Network`.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import StateSpace


class Network(nn.Module, ABC):
    """Raw network. Parameters for lambda have "lam" in their name: a student's surplus over its teacher."""

    sees_time: ClassVar[bool] = True
    """Whether the output depends on t."""

    @abstractmethod
    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L ..."]:
        """Features of any shape behind (B, L)."""

    @abstractmethod
    def head(self, h: Float[Tensor, "B L ..."], positions: slice) -> Float[Tensor, "B L d S"]:
        """Logits of a slice of positions."""

    def forward(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D S"]:
        return self.head(self.body(x, t, label, lam), slice(None))


class Config(_Config, ABC):
    """What every network is told."""

    parameterization: Literal["free", "subs", "bayes", "raw"] = "free"
    """How logits become log p(x_0 | x_t): free (no mask), SUBS, by the Bayes skip, or raw (mask included)."""

    @abstractmethod
    def build(self, space: StateSpace, *, lam: bool) -> Network:
        """The network on a state space; `lam` adds the parameters that take lambda."""
