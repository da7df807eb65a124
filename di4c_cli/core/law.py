"""The joint law of x_0 given x_t that a denoiser hands out: what losses and likelihoods read.

It is lazy, like the product laws it is made of (`product_law.py`): read at sites, only where x_t leaves
something open, and a piece at a time. What a loss wants to know of it is a `Reading` (`readings.py`); a law
answers any number of them in one pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from di4c_cli.core import mixture, readings
from di4c_cli.core.components import Components, Listed
from di4c_cli.core.mixing import Even, Mixing
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import KeptLaw, ProductLaw, Table, unfilled
from di4c_cli.core.readings import Piece, Reading
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import NEVER, draw_from, uniform


class Law(ABC):
    """A joint law of x_0 given x_t for B data points, whatever its structure."""

    @abstractmethod
    def answer(self, *asked: Reading) -> list[Float[Tensor, "B ..."]]:
        """What each reading wants to know, all from one pass."""

    @abstractmethod
    def log_marginal(self) -> Float[Tensor, "B D S"]:
        """One-position marginals, all positions at once."""

    @abstractmethod
    def contradictions(
        self, x: Int[Tensor, "b N D"], rows: Int[Tensor, " b"] | None = None
    ) -> Int[Tensor, "b N"]:
        """How many positions of each point are not what x_t settles; points of all data, or those given."""

    def subset(self, rows: Int[Tensor, " b"]) -> "Law":
        """The law of some of the data points, sharing what is computed."""
        return LawOfSome(self, rows)

    def log_joint(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        """log p(x | x_t), nats."""
        return self.answer(readings.Joint(x))[0] + NEVER * self.contradictions(x)

    def correlation(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        """log p(x | x_t) - sum_d log p^d(x^d | x_t): what a product law cannot express."""
        return self.answer(readings.Correlation(x))[0]

    def log_step(
        self,
        process: ForwardProcess,
        x_t: Int[Tensor, "B D"],
        x_s: Int[Tensor, "B N D"],
        t: Float[Tensor, " B"],
        s: Float[Tensor, " B"],
    ) -> Float[Tensor, "B N"]:
        """log p_{s|t}(x_s | x_t) with x_0 integrated out by the forward posterior, nats."""
        return self.answer(readings.Step(process, x_t, x_s, t, s))[0] + NEVER * self.contradictions(x_s)

    def components_kl(self, p: ProductLaw) -> Float[Tensor, " B"]:
        """Mean over components of KL(p || component): each component held to a product law."""
        return self.answer(readings.ComponentsKL(p))[0]

    def marginal_kl(self, p: ProductLaw) -> Float[Tensor, " B"]:
        """sum_d KL(p^d || marginal^d)."""
        return self.answer(readings.MarginalKL(p))[0]

    def effective_components(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        """exp(entropy) of the components' responsibilities at x: all of them where latents are ignored."""
        return self.answer(readings.EffectiveComponents(x))[0]


class LawOfSome(Law):
    """Some data points of a law. What is asked of it is asked of the whole law, so one pass serves both."""

    def __init__(self, whole: Law, rows: Int[Tensor, " b"]) -> None:
        self.whole = whole
        self.rows = rows

    def answer(self, *asked: Reading) -> list[Float[Tensor, "b ..."]]:
        return self.whole.answer(*[readings.Among(self.rows, reading) for reading in asked])

    def log_marginal(self) -> Float[Tensor, "b D S"]:
        return self.whole.log_marginal()[self.rows]

    def contradictions(
        self, x: Int[Tensor, "b N D"], rows: Int[Tensor, " b"] | None = None
    ) -> Int[Tensor, "b N"]:
        return self.whole.contradictions(x, self.rows if rows is None else self.rows[rows])


class LawOfComponents(Law):
    """A law made of components, product laws that some or all of the positions share."""

    sites: Sites
    """Where the law is open."""
    settled: Int[Tensor, "B D"] | None
    """The states elsewhere."""
    table: Table
    """What the components are made of, a piece at a time."""
    mixing: Mixing

    @abstractmethod
    def components(self, part: Sites) -> Components:
        """The components at some sites."""

    def answer(self, *asked: Reading) -> list[Float[Tensor, "B ..."]]:
        if not asked:
            return []
        if self.table.kept:
            sums = self._sums(self.table.sites, asked)
        else:
            sums = self._summed_by_pieces(asked)
        found, start = [], 0
        for reading in asked:
            found.append(reading.of(self.mixing, *sums[start : start + reading.num_sums]))
            start += reading.num_sums
        return found

    def _summed_by_pieces(self, asked: tuple[Reading, ...]) -> list[Tensor]:
        """Pieces are read anew in the backward pass: between the two passes only the sums are kept."""
        total: list[Tensor] = []
        for part in self.table.parts:
            sums = checkpoint(self._sums, part, asked, use_reentrant=False, preserve_rng_state=False)
            total = [a + b for a, b in zip(total, sums, strict=True)] if total else list(sums)
        return total

    def _sums(self, part: Sites, asked: tuple[Reading, ...]) -> list[Tensor]:
        seen = Piece.each(part, self.components(part), self.mixing, asked)
        return [value for reading, piece in zip(asked, seen, strict=True) for value in reading.sums(piece)]

    def contradictions(
        self, x: Int[Tensor, "b N D"], rows: Int[Tensor, " b"] | None = None
    ) -> Int[Tensor, "b N"]:
        if self.settled is None:
            return x.new_zeros(x.shape[:2])
        own = self.sites.placed(torch.ones_like(self.sites.row), torch.zeros_like(self.settled)).bool()
        chosen = slice(None) if rows is None else rows
        return ((x != self.settled[chosen, None]) & ~own[chosen, None]).sum(-1)

    def marginal(self) -> ProductLaw:
        """The product of the marginals."""
        log_p = torch.cat([self.components(part).marginal() for part in self.table.parts])
        return KeptLaw(log_p, self.sites, self.settled)

    def log_marginal(self) -> Float[Tensor, "B D S"]:
        return self.marginal().log_p


class MixtureLaw(LawOfComponents):
    """(1/L) sum_l prod_d p^d(x_0^d | x_t; lam_l) for B data points; L = 1 is a product law."""

    mixing = Even()

    def __init__(
        self,
        read: Callable[[Sites], Float[Tensor, "P L S"]],
        sites: Sites,
        num_components: int,
        num_states: int,
        settled: Int[Tensor, "B D"] | None = None,
    ) -> None:
        """The components' log-probabilities; the rest as for a `ProductLaw`."""
        self.read = read
        self.sites = sites
        self.num_components = num_components
        self.num_states = num_states
        self.settled = settled
        self.table = Table(read, sites, num_components, num_states)

    def components(self, part: Sites) -> Listed:
        return Listed(self.table.at(part))

    @classmethod
    def dense(cls, log_p: Float[Tensor, "B L D S"]) -> "MixtureLaw":
        B, L, D, S = log_p.shape
        rows = log_p.transpose(1, 2)
        sites = Sites.everywhere(B, D, log_p.device)
        return cls(lambda part: rows[part.row, part.position], sites, L, S)

    @property
    def log_p(self) -> Float[Tensor, "B L D S"]:
        """The components, all positions at once: for small laws."""
        B, D = self.sites.num_rows, self.sites.num_dims
        everywhere = Sites.everywhere(B, D, self.sites.row.device)
        return self.read(everywhere).unflatten(0, (D, B)).permute(1, 2, 0, 3)

    def draw_each(self, generator: torch.Generator) -> tuple[Int[Tensor, "B L D"], ProductLaw]:
        """One point from each component (together, stratified draws from the mixture), and the marginals."""
        B, L, D = self.sites.num_rows, self.num_components, self.sites.num_dims
        u = uniform(B, L, D, generator=generator, device=self.sites.row.device)
        x = unfilled(self.settled, self.sites)[:, :, None].repeat(1, 1, L)
        marginals = []
        for part, log_p in self.table.pieces():
            x[part.row, part.position] = draw_from(log_p, part.at(u)[..., None]).squeeze(-1)
            marginals.append(mixture.log_marginal(log_p))
        law = KeptLaw(torch.cat(marginals), self.sites, self.settled)
        return x.transpose(1, 2), law


class MixtureOfRows(MixtureLaw):
    """The equal mixture of the product laws of N rows for each datum: rows b * N + n of `rows`."""

    def __init__(self, rows: ProductLaw, num: int) -> None:
        self.rows = rows
        B, D = rows.sites.num_rows // num, rows.sites.num_dims
        settled, sites = None, Sites.everywhere(B, D, rows.sites.row.device)
        if rows.settled is not None:
            points = rows.settled.view(B, num, D)
            open_ = torch.zeros(B * num, D, dtype=torch.bool, device=points.device)
            open_ = rows.sites.placed(torch.ones_like(rows.sites.row, dtype=torch.bool), open_)
            # Points that are settled differently make a law that is open.
            differ = (points != points[:, :1]).any(1)
            settled, sites = points[:, 0], Sites.where(open_.view(B, num, D).any(1) | differ)
        super().__init__(
            lambda part: rows.read(part.of_copies(num)).unflatten(0, (len(part), num)),
            sites,
            num,
            rows.num_states,
            settled,
        )

    def marginal(self) -> ProductLaw:
        return self.rows if self.num_components == 1 else super().marginal()

    def detached(self) -> "MixtureOfRows":
        """The same law, through which no gradient goes whenever it is read."""
        return MixtureOfRows(self.rows.detached(), self.num_components)

    def of_some(self, rows: Int[Tensor, " b"]) -> "MixtureOfRows":
        """The law of some of the data points."""
        num = self.num_components
        copies = rows[:, None] * num + torch.arange(num, device=rows.device)
        return MixtureOfRows(self.rows.subset(copies.flatten()), num)
