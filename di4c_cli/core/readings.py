"""What may be asked of a law of x_0: sums over positions, and what is made of the sums.

A mixture sum_l prod_d has one coupling between positions, the log-sum-exp over its components of sums over
positions. So everything a loss wants is a few sums over sites, taken piece by piece, and a small function of
them. `P` counts the sites of a piece. Which positions share a component is the business of a `Mixing`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from di4c_cli.core import mixture
from di4c_cli.core.components import Components
from di4c_cli.core.mixing import Mixing
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import NEVER


@dataclass(frozen=True)
class Piece:
    """The components' laws at some sites, and what several readings make of them."""

    sites: Sites
    components: Components
    mixing: Mixing
    log_marginal: Float[Tensor, "P S"]
    log_factors: Float[Tensor, "P L N"]
    """log p^d(x_n^d ; lam_l) of a reading's points."""

    @classmethod
    def each(
        cls, sites: Sites, components: Components, mixing: Mixing, asked: "Sequence[Reading]"
    ) -> Iterator["Piece"]:
        """The piece as each of the readings sees it."""
        points = [reading.points(sites) for reading in asked]
        marginal, factors = components.marginal_and_factors(torch.cat(points, 1))
        for own in factors.split([x.shape[1] for x in points], 2):
            yield cls(sites, components, mixing, marginal, own)

    def among(self, rows: Int[Tensor, " b"]) -> "Piece":
        """What belongs to some of the data points."""
        kept, sites = self.sites.among(rows)
        return Piece(
            sites,
            self.components.subset(kept),
            self.mixing.among(rows),
            self.log_marginal[kept],
            self.log_factors[kept],
        )


class Reading(ABC):
    """One question to a law."""

    num_sums = 1

    def points(self, sites: Sites) -> Int[Tensor, "P N"]:
        """The states at the sites of the points whose factors it wants; none unless it says so."""
        return sites.row.new_empty(len(sites), 0)

    @abstractmethod
    def sums(self, piece: Piece) -> tuple[Float[Tensor, "B ..."], ...]:
        """Sums over the sites of a piece."""

    @abstractmethod
    def of(self, mixing: Mixing, *sums: Tensor) -> Float[Tensor, "B ..."]:
        """The answer, from the sums over all pieces."""


class _PlainSum(Reading):
    """A reading that is a sum over positions."""

    def of(self, mixing: Mixing, *sums: Tensor) -> Float[Tensor, "B ..."]:
        return sums[0]


class Joint(Reading):
    """log p(x | x_t) (B, N) of points that agree with what is settled: the paper's J."""

    def __init__(self, x: Int[Tensor, "B N D"]) -> None:
        self.x = x

    def points(self, sites: Sites) -> Int[Tensor, "P N"]:
        return sites.at(self.x)

    def sums(self, piece: Piece) -> tuple[Float[Tensor, "B ..."], ...]:
        return (piece.mixing.total(piece.sites, piece.log_factors),)

    def of(self, mixing: Mixing, *sums: Tensor) -> Float[Tensor, "B N"]:
        return mixing.log_joint(sums[0])


class Correlation(Joint):
    """J(x) - M(x) (B, N): joint minus product of marginals, both from the same draws of lambda.

    The control variate of Di4C (Section 4): minus its mean over samples of the target, plus the closed-form
    KL of the marginals, has the gradient of the full KL at a fraction of its variance.
    """

    num_sums = 2

    def sums(self, piece: Piece) -> tuple[Float[Tensor, "B ..."], ...]:
        log_f = piece.log_factors
        return piece.mixing.total(piece.sites, log_f), piece.sites.total(piece.components.mixed(log_f))

    def of(self, mixing: Mixing, *sums: Tensor) -> Float[Tensor, "B N"]:
        return mixing.log_joint(sums[0]) - sums[1]


class EffectiveComponents(Joint):
    """exp(entropy) (B, N) of the responsibilities of the components at each point."""

    def of(self, mixing: Mixing, *sums: Tensor) -> Float[Tensor, "B N"]:
        return mixing.effective_components(sums[0])


class LogMarginal(_PlainSum):
    """sum_d log p^d(x^d | x_t) (B, N): the paper's M."""

    def __init__(self, x: Int[Tensor, "B N D"]) -> None:
        self.x = x

    def sums(self, piece: Piece) -> tuple[Float[Tensor, "B N"], ...]:
        return (piece.sites.total(piece.log_marginal.gather(-1, piece.sites.at(self.x))),)


class EvenLogMarginal(_PlainSum):
    """sum_d mean_k log p^d(k | x_t) (B,) over the states k that the parameterization allows."""

    def sums(self, piece: Piece) -> tuple[Float[Tensor, " B"], ...]:
        log_p = piece.log_marginal
        allowed = log_p > NEVER / 2
        mean = log_p.where(allowed, log_p.new_zeros(())).sum(-1) / allowed.sum(-1)
        return (piece.sites.total(mean),)


class MarginalKL(_PlainSum):
    """sum_d KL(p^d || marginal^d) (B,), nats; `reverse`: KL(marginal^d || p^d).

    With `where`, of some positions only.
    """

    def __init__(
        self, p: ProductLaw, *, reverse: bool = False, where: Bool[Tensor, "B D"] | None = None
    ) -> None:
        self.p = p
        self.reverse = reverse
        self.where = where

    def sums(self, piece: Piece) -> tuple[Float[Tensor, " B"], ...]:
        log_p, log_q = self.p.table.at(piece.sites), piece.log_marginal
        kl = mixture.kl(log_q, log_p) if self.reverse else mixture.kl(log_p, log_q)
        return (piece.sites.total(kl if self.where is None else kl * piece.sites.at(self.where)),)


class ComponentsKL(_PlainSum):
    """mean_l sum_d KL(p^d || p^d(. ; lam_l)) (B,), nats."""

    def __init__(self, p: ProductLaw) -> None:
        self.p = p

    def sums(self, piece: Piece) -> tuple[Float[Tensor, " B"], ...]:
        return (piece.sites.total(piece.components.kl_from(self.p.table.at(piece.sites))),)


class Step(Reading):
    """log p_{s|t}(x_s | x_t) (B, N) with x_0 integrated out by the forward posterior.

    Of points that keep what is settled. A site is asked once for each state that is wanted there.
    """

    def __init__(
        self,
        process: ForwardProcess,
        x_t: Int[Tensor, "B D"],
        x_s: Int[Tensor, "B N D"],
        t: Float[Tensor, " B"],
        s: Float[Tensor, " B"],
    ) -> None:
        self.process, self.x_t, self.x_s, self.t, self.s = process, x_t, x_s, t, s

    def sums(self, piece: Piece) -> tuple[Float[Tensor, "B ..."], ...]:
        row, x_s, x_t = piece.sites.row, piece.sites.at(self.x_s), piece.sites.at(self.x_t)
        every = torch.arange(self.process.space.num_states, device=x_s.device)
        few = x_s.shape[1] <= len(every)
        wanted = x_s if few else every.expand(len(x_s), -1)
        found = []
        for state in wanted.split(1, 1):
            log_q = self.process.log_posterior(state, x_t[:, None], self.t[row], self.s[row])
            found.append(piece.components.log_expected(log_q.squeeze(1)))
        steps = torch.stack(found, -1)
        if not few:
            steps = steps.gather(-1, x_s[:, None].expand(-1, steps.shape[1], -1))
        return (piece.mixing.total(piece.sites, steps),)

    def of(self, mixing: Mixing, *sums: Tensor) -> Float[Tensor, "B N"]:
        return mixing.log_joint(sums[0])


class Among(Reading):
    """A reading of some of the data points only."""

    def __init__(self, rows: Int[Tensor, " b"], reading: Reading) -> None:
        self.rows = rows
        self.reading = reading
        self.num_sums = reading.num_sums

    def points(self, sites: Sites) -> Int[Tensor, "P N"]:
        kept, own = sites.among(self.rows)
        states = self.reading.points(own)
        return states.new_zeros(len(sites), states.shape[1]).index_copy(0, kept, states)

    def sums(self, piece: Piece) -> tuple[Float[Tensor, "b ..."], ...]:
        return self.reading.sums(piece.among(self.rows))

    def of(self, mixing: Mixing, *sums: Tensor) -> Float[Tensor, "b ..."]:
        return self.reading.of(mixing.among(self.rows), *sums)
