"""Where laws are read: pairs of a data point and a position, so that no work goes where nothing is open."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Sites:
    """P pairs (row, position) of a batch of B rows and D positions, ordered by position and then by row."""

    row: Int[Tensor, " P"]
    position: Int[Tensor, " P"]
    num_rows: int
    num_dims: int

    @classmethod
    @lru_cache(maxsize=16)  # laws of one shape share their sites
    def everywhere(cls, num_rows: int, num_dims: int, device: torch.device | str) -> "Sites":
        rows, positions = torch.arange(num_rows, device=device), torch.arange(num_dims, device=device)
        return cls(rows.repeat(num_dims), positions.repeat_interleave(num_rows), num_rows, num_dims)

    @classmethod
    def where(cls, mask: Bool[Tensor, "B D"]) -> "Sites":
        """The sites at which `mask` holds. On a GPU the host waits here: their number decides all shapes."""
        position, row = mask.T.nonzero(as_tuple=True)
        return cls(row, position, *mask.shape)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def whole(self) -> bool:
        """Whether these are all sites of the batch."""
        return len(self) == self.num_rows * self.num_dims

    @property
    def span(self) -> slice:
        """The range of positions that holds them all."""
        if self.whole:
            return slice(0, self.num_dims)
        return slice(int(self.position[0]), int(self.position[-1]) + 1) if len(self) else slice(0, 0)

    def split(self, size: int) -> Iterator["Sites"]:
        """Pieces of at most `size` sites; one empty piece, if there are none."""
        for row, position in zip(self.row.split(size), self.position.split(size), strict=True):
            yield replace(self, row=row, position=position)

    def seen_from(self, start: int, num_dims: int) -> "Sites":
        """The same sites where only `num_dims` positions from `start` on are at hand."""
        return replace(self, position=self.position - start, num_dims=num_dims)

    def of_copies(self, num: int) -> "Sites":
        """The same positions of `num` copies of each row: rows b * num + n, those of one site together."""
        copies = self.row[:, None] * num + torch.arange(num, device=self.row.device)
        position = self.position.repeat_interleave(num)
        return Sites(copies.flatten(), position, self.num_rows * num, self.num_dims)

    def of_rows(self, rows: Int[Tensor, " b"], num_rows: int) -> "Sites":
        """The same sites with rows counted in a batch of `num_rows`, of which they have seen `rows`."""
        return replace(self, row=rows[self.row], num_rows=num_rows)

    def among(self, rows: Int[Tensor, " b"]) -> tuple[Int[Tensor, " p"], "Sites"]:
        """Which of the sites belong to the given rows, and these with rows counted as in `rows`."""
        place = torch.full((self.num_rows,), -1, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        kept = (place[self.row] >= 0).nonzero().squeeze(1)
        return kept, Sites(place[self.row[kept]], self.position[kept], len(rows), self.num_dims)

    def at(self, values: Shaped[Tensor, "B ... D"]) -> Shaped[Tensor, "P ..."]:
        """What belongs to the sites of something that has a value at every position."""
        return values.movedim(-1, 1)[self.row, self.position]

    def features(self, h: Float[Tensor, "B L D ..."]) -> Float[Tensor, "P L ..."]:
        """Features of the sites, in memory of their own."""
        L = h.shape[1]
        index = (self.row[:, None] * L + torch.arange(L, device=h.device)) * self.num_dims
        index = (index + self.position[:, None]).flatten()
        # Rows picked from a flat tensor: the backward pass of this is a plain sum of rows.
        return h.flatten(0, 2).index_select(0, index).unflatten(0, (len(self), L))

    def total(self, values: Float[Tensor, "P ..."]) -> Float[Tensor, "B ..."]:
        """Sums over the sites of each row, in float64: they run to thousands of nats."""
        sums = values.new_zeros((self.num_rows, *values.shape[1:]), dtype=torch.float64)
        return sums.index_add(0, self.row, values.double())

    def placed(
        self, values: Shaped[Tensor, "P ..."], into: Shaped[Tensor, "B D ..."]
    ) -> Shaped[Tensor, "B D ..."]:
        """`into` with the values at the sites."""
        return into.index_put((self.row, self.position), values)
