"""Forward processes: how data is corrupted, and the exact posterior that undoes one step.

A file `<kind>.py` holds `Config(processes.Config)` with `build(space) -> ForwardProcess`. Nothing here hands
out an (S, S) matrix; rows N are flat batches with one time each.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import StateSpace


class ForwardProcess(ABC):
    """q_{t|s} factorises over positions; t = 0 is data, t = 1 the prior."""

    space: StateSpace
    """The states of x_t, a mask included."""
    ordinal: bool = False
    """Whether states are ordered, so that jumps of tau-leaping may be added up."""

    @abstractmethod
    def sample_prior(
        self, n: int, generator: torch.Generator, device: torch.device | str
    ) -> Int[Tensor, "n D"]:
        """x_1 ~ q_1."""

    @abstractmethod
    def prior_probs(self) -> Float[Tensor, " S"]:
        """q_1 of one position, float64."""

    @abstractmethod
    def sample_forward(
        self, x_0: Int[Tensor, "N D"], t: Float[Tensor, " N"], generator: torch.Generator
    ) -> Int[Tensor, "N D"]:
        """x_t ~ q_{t|0}(. | x_0)."""

    @abstractmethod
    def sample_posterior(
        self,
        x_0: Int[Tensor, "N D"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
        generator: torch.Generator,
    ) -> Int[Tensor, "N D"]:
        """x_s ~ q_{s|0,t}(. | x_0, x_t), proportional to q_{t|s}(x_t | x_s) q_{s|0}(x_s | x_0)."""

    def open(self, x_t: Int[Tensor, "N D"]) -> Bool[Tensor, "N D"] | None:
        """Where x_t does not show x_0; None: it never does for certain."""
        return None

    def revealed(
        self,
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
        generator: torch.Generator,
    ) -> Bool[Tensor, "N D"] | None:
        """Where the step to s takes x_0 for x_s, and x_t elsewhere, drawn before x_0 is looked at.

        None: the step is not of that kind, and needs x_0 everywhere.
        """
        return None

    def finish(self, x_0: Int[Tensor, "N D"], x_t: Int[Tensor, "N D"]) -> Int[Tensor, "N D"]:
        """The end of a chain whose last call drew x_0: where x_t settles a position already, that stays."""
        return x_0

    @abstractmethod
    def log_likelihood(self, x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        """log q_{t|0}(x_t^d | x_0^d = k) for every k."""

    @abstractmethod
    def log_transition(
        self,
        log_p: Float[Tensor, "N D S"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
    ) -> Float[Tensor, "N D S"]:
        """log sum_k p(x_0 = k) q_{s|0,t}(. | k, x_t): the reverse step, x_0 integrated out."""

    @abstractmethod
    def log_posterior(
        self,
        x_s: Int[Tensor, "N D"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
    ) -> Float[Tensor, "N D S"]:
        """log q_{s|0,t}(x_s^d | x_0^d = k, x_t^d) for every k, float64: a step as a function of x_0."""

    @abstractmethod
    def reverse_rates(
        self, log_p: Float[Tensor, "N D S"], x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        """Rates per unit of t of the reverse jump process x_t -> k, 0 at k = x_t (tauLDR, Proposition 3)."""

    @abstractmethod
    def forward_rates(self, x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        """Rates per unit of t of the forward jump process x_t -> k, 0 at k = x_t."""


class Config(_Config, ABC):
    """What every process is told: nothing yet."""

    @abstractmethod
    def build(self, space: StateSpace) -> ForwardProcess:
        """The process on the data's state space."""
