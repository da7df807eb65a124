"""A mixture for each window of positions: one discrete component a window, summed exactly.

    p(x_0 | x_t) = sum_j w(j_1 .. j_W | x_t) prod_windows prod_{d in window} p^d(x_0^d | x_t; j_window)

A base law gives every position its states, and component j tilts them by a table of its place in the window:
p^d(k; j) proportional to p^d(k) exp(c_place(k, j)). The paper's mixture over lambda is the case of one window
over everything, with draws in place of sums. The correlation that M components can carry is at most
(n - 1) log M nats for n positions, and each window has that of its own.
"""

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.by_place import ByPlace
from di4c_cli.core.components import Tilted
from di4c_cli.core.law import LawOfComponents
from di4c_cli.core.mixing import Windowed
from di4c_cli.core.product_law import ProductLaw, Table
from di4c_cli.core.readings import Reading
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import at_least_float32
from di4c_cli.core.tilts import Tilts


class WindowedLaw(LawOfComponents):
    """Exact in everything that may be asked of it: no draws, and no bias of a log of a mean."""

    mixing: Windowed

    def __init__(self, base: ProductLaw, tilts: Tilts, mixing: Windowed, *, balanced: bool) -> None:
        """
        Args:
            balanced: tilts count from their mean over the components, as weighed by x_t, so that what one
                of them adds to a state others take away, and the marginals stay near the base law.
        """
        self.base = base
        self.balanced = balanced
        self.tilts = tilts
        self.mixing = mixing
        self.sites, self.settled = base.sites, base.settled
        # A site takes a row of states and some of components.
        self.table = Table(base.read, base.sites, 1, base.num_states + 2 * mixing.u.shape[2])

    def answer(self, *asked: Reading) -> list[Float[Tensor, "B ..."]]:
        # Once, not in a piece, which its backward pass would not find again.
        _ = self.mixing.log_weights, self._table, self._factors
        return super().answer(*asked)

    @cached_property
    def _table(self) -> Float[Tensor, "places S M"]:
        return at_least_float32(self.tilts.table())

    @cached_property
    def _factors(self) -> Float[Tensor, "places S M"]:
        return self._table.exp()

    def components(self, part: Sites) -> Tilted:
        place, log_weights = self.mixing.windows.place[part.position], self.mixing.at(part)
        log_base = self.table.at(part)
        if self.balanced:
            log_base = log_base - self._log_mean_tilt(place, log_weights)
        return Tilted(log_base, self._table, self._factors, place, log_weights)

    def _log_mean_tilt(
        self, place: Int[Tensor, " P"], log_weights: Float[Tensor, "P M"]
    ) -> Float[Tensor, "P S"]:
        grouped = ByPlace.of(place, len(self._factors))
        return grouped.times(log_weights.exp(), self._factors.transpose(1, 2)).log()

    def marginal(self) -> ProductLaw:
        """The product of the marginals, read where it is wanted."""
        return ProductLaw(
            lambda sites: self.components(sites).marginal(), self.sites, self.base.num_states, self.settled
        )

    def component(self, chosen: Int[Tensor, "B W"]) -> ProductLaw:
        """The product law of each row at one component for each of its windows."""
        windows = self.mixing.windows

        def read(sites: Sites) -> Float[Tensor, "P S"]:
            component = chosen[sites.row, windows.window[sites.position]]
            place = windows.place[sites.position]
            tilt = at_least_float32(self.tilts.of(place, component))
            if self.balanced:
                tilt = tilt - self._log_mean_tilt(place, self.mixing.at(sites))
            # What is settled stays so: a tilt is finite, and the impossible is not.
            return (self.base.read(sites) + tilt).log_softmax(-1)

        return ProductLaw(read, self.sites, self.base.num_states, self.settled)

    def drawn(self, generator: torch.Generator) -> ProductLaw:
        """The product law of each row at components drawn for it."""
        return self.component(self.mixing.coupling.draw(self.mixing.u, generator))
