"""The codebook of a windowed student: tables that tilt, and a gate that weighs the components given x_t."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, silu

from di4c_cli.core.coupling import Chain, Coupling, Independent
from di4c_cli.core.tilts import Full, LowRank, Tilts
from di4c_cli.core.windows import Windows

GateKind = Literal["prior", "bayes", "features"]
HIDDEN = 64  # width of the gate's hidden layer


class Codebook(nn.Module):
    """M components for the windows of one layout, or of all layouts where windows share their tables.

    The gate's potentials add up from a prior, a naive-Bayes score of what is visible in the window, and a
    small network on the features of its positions. Training starts from a fit to data (`codebook_fit.py`).
    """

    def __init__(
        self,
        windows: Windows,
        num_states: int,
        num_components: int,
        *,
        tied: bool,
        gate: GateKind,
        features: int,
        chain: bool,
        rank: int | None = None,
    ) -> None:
        """
        Args:
            tied: one table for all windows, by the offset of a position in its window; else one for each
                position.
            features: how many the gate's network sees of a window.
            rank: of the tables, for large vocabularies; None: full tables.

        Raises:
            ValueError: a rank that tables of this size cannot have.
        """
        super().__init__()
        M = num_components
        num, places = (1, windows.members.shape[1]) if tied else (windows.num, windows.num_dims)
        self.tied = tied
        self.gate = gate
        size = places, num_states, M
        self.tilts: Tilts = Full(*size) if rank is None else LowRank(*size, rank)
        self.evidence = nn.Parameter(torch.zeros(places, M))
        """Subtracted from the tilt of a visible state: log-normaliser of the tilted law of the data."""
        self.prior = nn.Parameter(torch.full((num, M), -math.log(M)))
        self.inner = nn.Linear(features, HIDDEN) if gate == "features" else None
        self.outer = nn.Parameter(torch.zeros(num, HIDDEN, M)) if gate == "features" else None
        self.coupling: Coupling = Chain(1 if tied else num - 1, M) if chain else Independent()

    def potentials(
        self,
        windows: Windows,
        x_t: Int[Tensor, "B D"],
        open_: Bool[Tensor, "B D"] | None,
        seen: Float[Tensor, "B W F"] | None,
    ) -> Float[Tensor, "B W M"]:
        """u: unnormalised log-weights of each window's components.

        Args:
            open_: where x_t leaves x_0 open; None: everywhere.
            seen: features of the windows, for the gate's network.
        """
        u = self.prior.expand(len(x_t), windows.num, -1)
        if self.gate != "prior" and open_ is not None:
            u = u + self._visible_score(windows, x_t, open_)
        if self.inner is not None and self.outer is not None and seen is not None:
            hidden = silu(self.inner(seen))
            own = hidden @ self.outer[0] if self.tied else torch.einsum("bwh,whm->bwm", hidden, self.outer)
            u = u + own
        return u

    def _visible_score(
        self, windows: Windows, x_t: Int[Tensor, "B D"], open_: Bool[Tensor, "B D"]
    ) -> Float[Tensor, "B W M"]:
        """sum over visible positions of log p(x_t^d | j) - log p(x_t^d), with p the law of the data."""
        B, (W, n) = len(x_t), windows.members.shape
        position = windows.members.clamp(min=0)
        hidden = (windows.members < 0) | open_[:, position]
        places = windows.place[position].expand(B, W, n).reshape(B * W, n)
        x = torch.where(hidden, 0, x_t[:, position]).view(B * W, n)
        counted = (~hidden).view(B * W, n).to(self.evidence.dtype)
        score = self.tilts.score(places, x, counted)
        known = embedding_bag(places, self.evidence, per_sample_weights=counted, mode="sum")
        return (score - known).view(B, W, -1)

    @torch.no_grad()
    def start(self, table: Float[Tensor, "places S M"], law: Float[Tensor, "places S"]) -> None:
        """Tilt as told, or as near to it as these tilts can.

        Args:
            law: of the data, what each place says alone.
        """
        self.tilts.start(table, law.mean(0))
        self.evidence.copy_((law.log()[..., None] + self.tilts.table()).logsumexp(1))
