"""Product laws of x_0 given x_t: what a sampler reads, at sites, a piece at a time.

Nothing of size S exists before somebody reads it, only where x_t leaves something open, and never more than a
piece of it.
"""

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from di4c_cli.core.sites import Sites
from di4c_cli.core.space import NEVER, draw_from, uniform

PIECE = {"cpu": 2**20, "cuda": 2**25}
"""Entries of a piece (4 and 128 MiB in float32): a cache holds it, or it is worth the launch of a kernel."""
ROWS = 256
"""Rows that a piece has at least, or a head's matmul would wait for its weights."""
KEPT = 2
"""A law of at most that many pieces is read once and kept: that is faster, and no memory to speak of."""


class Table:
    """Log-probabilities at sites: kept if they are few, else read anew each time, a piece at a time."""

    def __init__(self, read: Callable[[Sites], Tensor], sites: Sites, rows: int, num_states: int) -> None:
        """`read` gives `rows` times `num_states` entries for each site."""
        self.read = read
        self.sites = sites
        self.rows = rows
        self.num_states = num_states

    @cached_property
    def parts(self) -> list[Sites]:
        entries = PIECE.get(self.sites.row.device.type, PIECE["cuda"])
        size = -(-max(ROWS, entries // self.num_states) // self.rows)
        return [self.sites] if len(self.sites) <= KEPT * size else list(self.sites.split(size))

    @property
    def kept(self) -> bool:
        return len(self.parts) == 1

    @cached_property
    def whole(self) -> Tensor:
        return self.read(self.sites)

    def at(self, part: Sites) -> Tensor:
        return self.whole if self.kept and part is self.sites else self.read(part)

    def pieces(self) -> Iterator[tuple[Sites, Tensor]]:
        for part in self.parts:
            yield part, self.at(part)


class ProductLaw:
    """p(x_0 | x_t) = prod_d p^d(x_0^d | x_t) for N rows."""

    def __init__(
        self,
        read: Callable[[Sites], Float[Tensor, "P S"]],
        sites: Sites,
        num_states: int,
        settled: Int[Tensor, "N D"] | None = None,
    ) -> None:
        """
        Args:
            read: normalised log-probabilities at any sites; certain of `settled` outside its own.
            sites: where the law is open.
            settled: the states elsewhere; may be left out where there is no elsewhere.
        """
        self.read = read
        self.sites = sites
        self.num_states = num_states
        self.settled = settled
        self.table = Table(read, sites, 1, num_states)

    @classmethod
    def dense(cls, log_p: Float[Tensor, "N D S"]) -> "ProductLaw":
        N, D, S = log_p.shape
        sites = Sites.everywhere(N, D, log_p.device)
        return cls(lambda part: log_p[part.row, part.position], sites, S)

    @cached_property
    def log_p(self) -> Float[Tensor, "N D S"]:
        """All positions at once."""
        N, D = self.sites.num_rows, self.sites.num_dims
        everywhere = Sites.everywhere(N, D, self.sites.row.device)
        return self.read(everywhere).unflatten(0, (D, N)).transpose(0, 1)

    def detached(self) -> "ProductLaw":
        """The same law, through which no gradient goes whenever it is read."""
        return ProductLaw(torch.no_grad()(self.read), self.sites, self.num_states, self.settled)

    def subset(self, rows: Int[Tensor, " n"]) -> "ProductLaw":
        """The laws of some of the rows."""
        num = self.sites.num_rows
        return ProductLaw(
            lambda part: self.table.at(part.of_rows(rows, num)),
            self.sites.among(rows)[1],
            self.num_states,
            None if self.settled is None else self.settled[rows],
        )

    def draw(
        self, generator: torch.Generator, num: int = 1, where: Bool[Tensor, "N {num} D"] | None = None
    ) -> Int[Tensor, "N {num} D"]:
        """`num` independent points x_0 for each row, in float64.

        Args:
            where: the positions that are wanted; the others are left as settled, or 0.
        """
        return self.scored(generator, num, where)[0]

    def scored(
        self, generator: torch.Generator, num: int = 1, where: Bool[Tensor, "N {num} D"] | None = None
    ) -> tuple[Int[Tensor, "N {num} D"], Float[Tensor, "N {num} D"]]:
        """Points as by `draw`, and the log-probability of each of their states."""
        N, D, device = self.sites.num_rows, self.sites.num_dims, self.sites.row.device
        u = uniform(N, num, D, generator=generator, device=device)
        x = unfilled(self.settled, self.sites)[:, :, None].repeat(1, 1, num)
        score = torch.zeros(x.shape, device=device)
        for part, log_p in self._wanted(where):
            drawn = draw_from(log_p, part.at(u))
            x[part.row, part.position] = drawn
            score[part.row, part.position] = log_p.gather(-1, drawn).to(score.dtype)
        return x.transpose(1, 2), score.transpose(1, 2)

    def _wanted(self, where: Bool[Tensor, "N num D"] | None) -> Iterator[tuple[Sites, Float[Tensor, "p S"]]]:
        """The pieces that hold the wanted sites."""
        if where is None or "whole" in vars(self.table):
            return self.table.pieces()
        wanted = where.any(1)
        if not self.sites.whole:
            own = torch.zeros_like(wanted)
            own[self.sites.row, self.sites.position] = True
            wanted = wanted & own
        return Table(self.read, Sites.where(wanted), 1, self.num_states).pieces()

    def mode(self) -> Int[Tensor, "N D"]:
        """The most probable state of each position."""
        x = unfilled(self.settled, self.sites)
        for part, log_p in self.table.pieces():
            x[part.row, part.position] = log_p.argmax(-1)
        return x


def unfilled(settled: Int[Tensor, "N D"] | None, sites: Sites) -> Int[Tensor, "N D"]:
    """Points to be filled in at the sites."""
    if settled is not None:
        return settled.clone()
    return torch.zeros(sites.num_rows, sites.num_dims, dtype=torch.long, device=sites.row.device)


class KeptLaw(ProductLaw):
    """A product law whose log-probabilities at its sites are at hand."""

    def __init__(
        self, log_p: Float[Tensor, "P S"], sites: Sites, settled: Int[Tensor, "N D"] | None = None
    ) -> None:
        self.values = log_p
        super().__init__(self._at, sites, log_p.shape[1], settled)

    def _at(self, part: Sites) -> Float[Tensor, "p S"]:
        if part is self.sites:
            return self.values
        index = self._index[part.row, part.position]
        if self.settled is None:
            return self.values[index]
        outside = (index < 0)[:, None]
        own = self.values[index.clamp(min=0)] if len(self.values) else self.values.new_empty(len(part), 1)
        log_p = own.expand(-1, self.num_states).masked_fill(outside, NEVER)
        certain = self.settled[part.row, part.position][:, None]
        return log_p.scatter(-1, certain, log_p.gather(-1, certain).masked_fill(outside, 0.0))

    @cached_property
    def _index(self) -> Int[Tensor, "N D"]:
        """Which of the values belongs to a position; -1 where it is settled."""
        nowhere = torch.full((self.sites.num_rows, self.sites.num_dims), -1, device=self.values.device)
        return self.sites.placed(torch.arange(len(self.sites), device=self.values.device), nowhere)
