"""Residual MLP on one-hot positions: the cheapest network for short, fixed-format data."""

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from di4c_cli.core import networks
from di4c_cli.core.networks._embedding import sinusoid
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

FEATURES = 64  # width of the scalar features of t and lambda


class Block(nn.Module):
    """h + W2 silu(W1 norm(h) + W_t time + W_lam lambda)."""

    def __init__(self, width: int, *, time: bool, lam_std: float | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.time = nn.Linear(FEATURES, width) if time else None
        self.lam = nn.Linear(FEATURES, width, bias=False) if lam_std is not None else None
        if self.lam is not None and lam_std is not None:
            nn.init.normal_(self.lam.weight, std=lam_std)

    def forward(self, h: Tensor, time: Tensor | None, lam: Tensor | None) -> Tensor:
        z = self.inner(self.norm(h))
        if self.time is not None and time is not None:
            z = z + self.time(time)
        if self.lam is not None and lam is not None:
            z = z + self.lam(lam)
        return h + self.outer(nn.functional.silu(z))


class MLP(networks.Network):
    """Token table summed over positions, residual blocks, linear head.

    Blocks before `lam_from` see no lambda: they are computed once for all of its draws.
    """

    def __init__(
        self,
        space: StateSpace,
        *,
        width: int,
        depth: int,
        time: bool,
        lam: bool,
        lam_from: int,
        lam_scale: float,
        lam_std: float,
    ) -> None:
        super().__init__()
        self.space = space
        self.lam_from = lam_from
        self.lam_scale = lam_scale
        D, S = space.num_dims, space.num_states
        self.table = nn.Parameter(torch.empty(D * S, width))
        with torch.no_grad():
            self.table.normal_().div_(math.sqrt(D))
        self.label = nn.Embedding(space.num_classes + 1, width) if space.num_classes else None

        def block(number: int) -> Block:
            return Block(width, time=time, lam_std=lam_std if lam and number >= lam_from else None)

        self.shared = block(0)
        self.blocks = nn.ModuleList(block(number) for number in range(1, depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, D * S)

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L H"]:
        D, S = self.space.num_dims, self.space.num_states
        offsets = torch.arange(D, device=x.device) * S
        h = nn.functional.embedding_bag(x + offsets, self.table, mode="sum")
        if self.label is not None and label is not None:
            h = h + self.label(label)
        time = None if self.shared.time is None else sinusoid(1000 * t, FEATURES, self.out.weight.dtype)
        time = None if time is None else time[:, None]
        features = None if lam is None else sinusoid(self.lam_scale * lam, FEATURES, self.out.weight.dtype)
        h = h[:, None]
        for number, block in enumerate([self.shared, *self.blocks]):
            if lam is not None and number == self.lam_from:
                h = h.expand(-1, lam.shape[1], -1)
            h = block(h, time, features)
        return self.norm(h)

    def around(self, h: Float[Tensor, "B 1 H"], members: Int[Tensor, "W n"]) -> Float[Tensor, "B W H"]:
        """Its features belong to no position: every window sees all of them."""
        return h.expand(-1, len(members), -1)

    def head(self, h: Float[Tensor, "B L H"], sites: Sites) -> Float[Tensor, "P L S"]:
        """Positions have weights of their own: all rows where the sites span, then a choice."""
        D, S, span = self.space.num_dims, self.space.num_states, sites.span
        weight = self.out.weight.unflatten(0, (D, S))[span].flatten(0, 1)
        bias = self.out.bias.unflatten(0, (D, S))[span].flatten()
        logits = nn.functional.linear(h, weight, bias).unflatten(-1, (-1, S))
        return sites.seen_from(span.start, span.stop - span.start).features(logits)


class Config(networks.Config):
    """Residual MLP."""

    width: int = Field(256, ge=1)
    """Width of the residual stream."""
    depth: int = Field(3, ge=2)
    """Residual blocks."""
    time: bool = False
    """Whether the network sees t; a masked process does not need it."""
    lam_from: int = Field(1, ge=0)
    """The first block that sees lambda, from 0; those before are computed once for all draws of it."""
    lam_scale: float = Field(20.0, gt=0)
    """Frequency scale of lambda's features; low is smooth (the paper's networks use 1000)."""
    lam_std: float = Field(0.125, ge=0)
    """Initial size of lambda's weights; too small and the student sits where lambda is ignored."""

    def build(self, space: StateSpace, *, lam: bool) -> MLP:
        if self.lam_from >= self.depth:
            raise ValueError(
                f"network 'mlp': lam_from {self.lam_from}, but the last block is {self.depth - 1}"
            )
        return MLP(
            space,
            width=self.width,
            depth=self.depth,
            time=self.time,
            lam=lam,
            lam_from=self.lam_from,
            lam_scale=self.lam_scale,
            lam_std=self.lam_std,
        )
