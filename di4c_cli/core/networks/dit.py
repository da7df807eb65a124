"""Small transformer in the style of DiT: adaLN conditioning, learned positions, bidirectional attention.

Lambda enters the adaLN vector and, multiplied with a vector of each position, the hidden state: a
conditioning that looks the same at every position wakes lambda up far too slowly on text.
"""

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention, silu

from di4c_cli.core import networks
from di4c_cli.core.networks._embedding import sinusoid
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

FEATURES = 64


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return layer_norm(h, h.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Pre-norm attention and MLP, each shifted, scaled and gated by the conditioning."""

    def __init__(self, width: int, heads: int, cond: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = nn.Linear(cond, 6 * width)
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():  # gates start at 1: an ordinary pre-norm transformer
            self.modulation.bias.view(6, width)[[2, 5]] = 1

    def forward(self, h: Float[Tensor, "N D H"], c: Float[Tensor, "N C"]) -> Float[Tensor, "N D H"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, -1)
        qkv = self.qkv(modulated(h, shift1, scale1)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        z = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + gate1[:, None] * self.proj(z)
        return h + gate2[:, None] * self.outer(
            gelu(self.inner(modulated(h, shift2, scale2)), approximate="tanh")
        )


class DiT(networks.Network):
    """Token and position embeddings, blocks, linear head."""

    def __init__(
        self,
        space: StateSpace,
        *,
        width: int,
        depth: int,
        heads: int,
        lam: bool,
        lam_scale: float,
        lam_std: float,
    ) -> None:
        super().__init__()
        self.space = space
        self.lam_scale = lam_scale
        cond = max(64, width // 2)
        self.table = nn.Embedding(space.num_states, width)
        self.position = nn.Parameter(torch.empty(space.num_dims, width))
        nn.init.normal_(self.position)
        self.time = nn.Sequential(nn.Linear(FEATURES, cond), nn.SiLU(), nn.Linear(cond, cond))
        self.label = nn.Embedding(space.num_classes + 1, cond) if space.num_classes else None
        self.lam_cond = nn.Linear(FEATURES, cond, bias=False) if lam else None
        self.lam_hidden = nn.Linear(FEATURES, width, bias=False) if lam else None
        for layer in (self.lam_cond, self.lam_hidden):
            if layer is not None:
                nn.init.normal_(layer.weight, std=lam_std)
        self.blocks = nn.ModuleList(Block(width, heads, cond) for _ in range(depth))
        self.modulation = nn.Linear(cond, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.out = nn.Linear(width, space.num_states)

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D H"]:
        c = self.time(sinusoid(1000 * t, FEATURES, self.out.weight.dtype))
        if self.label is not None and label is not None:
            c = c + self.label(label)
        h = (self.table(x) + self.position) / math.sqrt(2)
        L = 1
        if lam is not None and self.lam_cond is not None and self.lam_hidden is not None:
            L = lam.shape[1]
            features = sinusoid(self.lam_scale * lam.flatten(), FEATURES, self.out.weight.dtype)
            h = h.repeat_interleave(L, 0) + self.lam_hidden(features)[:, None] * self.position
            c = c.repeat_interleave(L, 0) + self.lam_cond(features)
        c = silu(c)
        for block in self.blocks:
            h = block(h, c)
        shift, scale = self.modulation(c).chunk(2, -1)
        return modulated(h, shift, scale).unflatten(0, (-1, L))

    def head(self, h: Float[Tensor, "B L D H"], sites: Sites) -> Float[Tensor, "P L S"]:
        return self.out(sites.features(h))


class Config(networks.Config):
    """Small transformer."""

    width: int = Field(96, ge=8)
    """Width of the residual stream; a multiple of `heads`."""
    depth: int = Field(3, ge=1)
    """Blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads."""
    lam_scale: float = Field(20.0, gt=0)
    """Frequency scale of lambda's features; low is smooth (the paper's networks use 1000)."""
    lam_std: float = Field(0.125, ge=0)
    """Initial size of lambda's weights; too small and the student sits where lambda is ignored."""

    def build(self, space: StateSpace, *, lam: bool) -> DiT:
        if self.width % self.heads:
            raise ValueError(f"network 'dit': width {self.width} is not a multiple of {self.heads} heads")
        return DiT(
            space,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            lam=lam,
            lam_scale=self.lam_scale,
            lam_std=self.lam_std,
        )
