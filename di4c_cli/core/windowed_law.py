"""A mixture for each window of positions: one discrete component a window, summed exactly.

    p(x_0 | x_t) = sum_j w(j_1 .. j_W | x_t) prod_windows prod_{d in window} p^d(x_0^d | x_t; j_window)

A base law gives every position its states, and component j tilts them by a table of its place in the window:
p^d(k; j) proportional to p^d(k) exp(c_place(k, j)). The paper's mixture over lambda is the case of one window
over everything; but its gain over a product law is at most the log of the number of components, once a step,
and here it is that for each window.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.components import Tilted
from di4c_cli.core.law import LawOfComponents
from di4c_cli.core.mixing import Windowed
from di4c_cli.core.product_law import ProductLaw, Table
from di4c_cli.core.readings import Reading
from di4c_cli.core.sites import Sites


class WindowedLaw(LawOfComponents):
    """Exact in everything that may be asked of it: no draws, and no bias of a log of a mean."""

    mixing: Windowed

    def __init__(self, base: ProductLaw, tilts: Float[Tensor, "places S M"], mixing: Windowed) -> None:
        self.base = base
        self.tilts = tilts
        self.mixing = mixing
        self.sites, self.settled = base.sites, base.settled
        # A site takes a row of states and some of components.
        self.table = Table(base.read, base.sites, 1, base.num_states + 2 * tilts.shape[2])

    def answer(self, *asked: Reading) -> list[Float[Tensor, "B ..."]]:
        _ = self.mixing.log_weights  # once, not in a piece, which its backward pass would not find again
        return super().answer(*asked)

    def components(self, part: Sites) -> Tilted:
        place = self.mixing.windows.place[part.position]
        return Tilted(self.table.at(part), self.tilts, place, self.mixing.at(part))

    def component(self, chosen: Int[Tensor, "B W"]) -> ProductLaw:
        """The product law of each row at one component for each of its windows."""
        windows, by_component = self.mixing.windows, self.tilts.transpose(1, 2)

        def read(sites: Sites) -> Float[Tensor, "P S"]:
            component = chosen[sites.row, windows.window[sites.position]]
            tilt = by_component[windows.place[sites.position], component]
            # What is settled stays so: a tilt is finite, and the impossible is not.
            return (self.base.read(sites) + tilt).log_softmax(-1)

        return ProductLaw(read, self.sites, self.base.num_states, self.settled)

    def drawn(self, generator: torch.Generator) -> ProductLaw:
        """The product law of each row at components drawn for it."""
        return self.component(self.mixing.coupling.draw(self.mixing.u, generator))
