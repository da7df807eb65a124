"""Networks: raw functions of (x_t, t, label, lambda); they know nothing of processes.

A network is a body and a head, so that a law can be read where it matters: `head(h, sites)` turns features
into logits of those sites only. `lam (B, L)` holds L draws for each of B data points; a network is free to
compute what does not depend on lambda once for each data point. Without lambda, L is 1.

A file `<kind>.py` holds `Config(networks.Config)` with `build(space, lam) -> Network`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from di4c_cli.core.compiling import Compiled
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.memory import return_large_blocks
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace


class Network(nn.Module, ABC):
    """Raw network. Parameters for lambda have "lam" in their name: a student's surplus over its teacher."""

    sees_time: ClassVar[bool] = True
    """Whether the output depends on t."""
    space: StateSpace
    rows_at_once: int | None = None
    """Most rows (data points times draws of lambda) whose activations one backward pass keeps; None: all."""
    autocast: torch.dtype | None = None
    """Half precision that the body runs in under autocast; heads and laws stay in float32."""

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
    def head(self, h: Float[Tensor, "B L ..."], sites: Sites) -> Float[Tensor, "P L S"]:
        """Logits of the sites, in memory of their own."""

    def around(self, h: Float[Tensor, "B 1 ..."], members: Int[Tensor, "W n"]) -> Float[Tensor, "B W F"]:
        """What features tell of windows of positions (-1 for none): those of their members, side by side.

        Raises:
            ValueError: the network's features do not belong to positions.
        """
        if h.dim() != 4 or h.shape[2] != self.space.num_dims:
            raise ValueError("a gate on features needs a network with features of positions, or an mlp")
        outside = (members < 0).flatten()[:, None]
        rows = h[:, 0].index_select(1, members.clamp(min=0).flatten()).masked_fill(outside, 0.0)
        return rows.unflatten(1, tuple(members.shape)).flatten(2)

    def hidden(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L ..."]:
        """The body's features, computed in groups of `rows_at_once` rows.

        A group keeps nothing but its features; its activations are computed once more, with the same dropout,
        when its turn comes in the backward pass.
        """
        B, L = (len(x), 1) if lam is None else lam.shape
        at_once = self.rows_at_once or B * L
        if at_once >= B * L:
            return self._run(x, t, label, lam)
        data, rows = max(1, at_once // L), []
        for b in (slice(start, start + data) for start in range(0, B, data)):
            draws = [None] if lam is None else lam[b].split(at_once, 1)
            group = [
                checkpoint(
                    self._run, x[b], t[b], None if label is None else label[b], part, use_reentrant=False
                )
                for part in draws
            ]
            rows.append(torch.cat(group, 1))
        return torch.cat(rows)

    def compile_body(self, *, sampling: bool = False) -> None:
        """Run the body compiled; for sampling on a GPU as CUDA graphs."""
        if not sampling:
            self.body = Compiled(self.body)  # type: ignore[assignment, method-assign]
            return
        replayed = Compiled(self.body, mode="reduce-overhead")
        # A graph writes its next result over its last, which a law may still have to read.
        self.body = lambda *given: replayed(*given).clone()  # type: ignore[method-assign]

    def _run(
        self, x: Tensor, t: Tensor, label: Tensor | None, lam: Tensor | None
    ) -> Float[Tensor, "B L ..."]:
        if self.autocast is None:
            return self.body(x, t, label, lam)
        with torch.autocast(x.device.type, self.autocast):
            return self.body(x, t, label, lam).float()

    def forward(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D S"]:
        """All logits: (B, L, D, S) is what losses and samplers never ask for."""
        B, D = x.shape
        logits = self.head(self.hidden(x, t, label, lam), Sites.everywhere(B, D, x.device))
        return logits.unflatten(0, (D, B)).permute(1, 2, 0, 3)


def networks_of(model: object) -> Iterator[Network]:
    """The networks inside a denoiser; none in one that is no module."""
    for module in model.modules() if isinstance(model, nn.Module) else []:
        if isinstance(module, Network):
            yield module


def half_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """What bodies run in: "auto" is bfloat16 on a GPU, and float32 on a CPU, where that is faster."""
    wanted = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if wanted else None


def run_as(model: object, *, rows_at_once: int | None, autocast: torch.dtype | None, compiled: bool) -> None:
    """How the networks inside a denoiser are run in training."""
    if rows_at_once is not None:
        return_large_blocks()
    for network in networks_of(model):
        network.rows_at_once = rows_at_once
        network.autocast = autocast
        if compiled:
            network.compile_body()


class Config(_Config, ABC):
    """What every network is told."""

    parameterization: Literal["free", "subs", "bayes", "raw"] = "free"
    """How logits become log p(x_0 | x_t): free (what is visible stays, but where a teacher is trained), SUBS,
    by the Bayes skip, or raw (mask and visible positions included)."""

    @abstractmethod
    def build(self, space: StateSpace, *, lam: bool) -> Network:
        """The network on a state space; `lam` adds the parameters that take lambda."""
