"""The windowed student: a teacher's network, and a codebook of components for windows of positions."""

from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core.codebook import Codebook
from di4c_cli.core.denoiser import Denoiser, law_of_features
from di4c_cli.core.law import MixtureOfRows
from di4c_cli.core.mixing import Windowed
from di4c_cli.core.networks import Network
from di4c_cli.core.parameterization import BayesSkip, Parameterization
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.space import at_least_float32
from di4c_cli.core.windowed_law import WindowedLaw
from di4c_cli.core.windows import Windows


class DrawnLaws(MixtureOfRows):
    """One product law drawn from the exact law at each of N points, with marginals that need no draws."""

    def __init__(self, rows: ProductLaw, exact: MixtureOfRows) -> None:
        """`exact`: of the exact laws' marginals at the N points."""
        super().__init__(rows, exact.num_components)
        self.exact = exact

    def marginal(self) -> ProductLaw:
        return self.exact.marginal()

    def draw_each(self, generator: torch.Generator) -> tuple[Int[Tensor, "B N D"], ProductLaw]:
        return super().draw_each(generator)[0], self.marginal()

    def detached(self) -> "DrawnLaws":
        return DrawnLaws(self.rows.detached(), self.exact.detached())

    def of_some(self, rows: Int[Tensor, " b"]) -> "DrawnLaws":
        return DrawnLaws(super().of_some(rows).rows, self.exact.of_some(rows))


class WindowedDenoiser(nn.Module):
    """Windows of one layout at a time; which one is drawn, unless a sampling run takes them in turn."""

    def __init__(
        self,
        network: Network,
        parameterization: Parameterization,
        layouts: list[Windows],
        codebooks: list[Codebook],
        *,
        frozen: bool,
        balanced: bool,
    ) -> None:
        """
        Args:
            codebooks: one for each layout, or one for all.
            frozen: the network stays the teacher's.
            balanced: see `WindowedLaw`.
        """
        super().__init__()
        self.network = network.requires_grad_(not frozen)
        self.parameterization = parameterization
        self.layouts = layouts
        self.lam_codebooks = nn.ModuleList(codebooks)
        self.frozen = frozen
        self.balanced = balanced
        self.layout = 0 if len(layouts) == 1 else None

    def _apply(self, fn: Callable[[Tensor], Any], recurse: bool = True) -> nn.Module:
        """The layouts go where the weights go."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = next(self.parameters()).device
        self.layouts = [windows.to(device) for windows in self.layouts]
        return self

    def train(self, mode: bool = True) -> "WindowedDenoiser":
        """A frozen network is evaluated, without dropout, while the codebook trains."""
        super().train(mode)
        self.network.train(mode and not self.frozen)
        return self

    @property
    def codebooks(self) -> list[Codebook]:
        """One for each layout, or one for all."""
        return [module for module in self.lam_codebooks if isinstance(module, Codebook)]

    @property
    def sees_time(self) -> bool:
        """See `NetworkDenoiser`."""
        return self.network.sees_time or isinstance(self.parameterization, BayesSkip)

    def windowed(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None,
        layout: int,
    ) -> WindowedLaw:
        """The exact law under one layout."""
        windows, codebook = self.layouts[layout], self.codebooks[layout % len(self.codebooks)]
        with torch.no_grad() if self.frozen else nullcontext():
            h = self.network.hidden(x_t, t, label)
        base = law_of_features(self.network, self.parameterization, h, x_t, t)
        seen = self.network.around(h, windows.members) if codebook.inner is not None else None
        u = codebook.potentials(windows, x_t, self.parameterization.open(x_t), seen)
        mixing = Windowed(windows, at_least_float32(u), codebook.coupling)
        return WindowedLaw(base, codebook.tilts, mixing, balanced=self.balanced)

    def forward(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
    ) -> ProductLaw:
        return self.law(x_t, t, label, generator=generator).drawn(generator)

    def law(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
        num_latents: int = 1,
    ) -> WindowedLaw:
        """Exact given the layout, however many draws were asked for."""
        layout = self.layout
        if layout is None:
            layout = int(torch.randint(len(self.layouts), (), generator=generator, device=generator.device))
        return self.windowed(x_t, t, label, layout)

    def law_of_draws(
        self,
        x: Int[Tensor, "B N D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator,
    ) -> MixtureOfRows:
        N = x.shape[1]
        labels = None if label is None else label.repeat_interleave(N)
        law = self.law(x.flatten(0, 1), t.repeat_interleave(N), labels, generator=generator)
        return DrawnLaws(law.drawn(generator), MixtureOfRows(law.marginal(), N))

    def turn(self, call: int) -> Denoiser:
        """The same weights, with the layout that has its turn."""
        view = copy(self)
        view.layout = call % len(self.layouts)
        return view
