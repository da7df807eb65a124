"""Small U-Net with a full S-way head, for images of few grey levels.

The encoder does not see lambda, so it runs once for each data point however many draws there are; lambda
enters every block from the bottleneck on.
"""

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, scaled_dot_product_attention, silu

from di4c_cli.core import networks
from di4c_cli.core.networks._embedding import sinusoid
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

FEATURES = 64


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


class ResBlock(nn.Module):
    """Two 3x3 convolutions with t, label and lambda added between them."""

    def __init__(self, channels_in: int, channels: int, emb: int, lam_std: float | None) -> None:
        super().__init__()
        self.norm0, self.conv0 = group_norm(channels_in), nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.emb = nn.Linear(emb, channels)
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        self.lam = nn.Linear(FEATURES, channels, bias=False) if lam_std is not None else None
        if self.lam is not None and lam_std is not None:
            nn.init.normal_(self.lam.weight, std=lam_std)

    def forward(self, h: Tensor, emb: Tensor, lam: Tensor | None = None) -> Tensor:
        z = self.conv0(silu(self.norm0(h))) + self.emb(emb)[:, :, None, None]
        if self.lam is not None and lam is not None:
            z = z + self.lam(lam)[:, :, None, None]
        return (self.skip(h) + self.conv1(silu(self.norm1(z)))) / math.sqrt(2)


class Attention(nn.Module):
    """Single-head self-attention over positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (z.flatten(2).transpose(1, 2)[:, None] for z in self.qkv(self.norm(h)).chunk(3, 1))
        z = scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2)
        return (h + self.out(z.unflatten(2, h.shape[2:]))) / math.sqrt(2)


class UNet(networks.Network):
    """Levels of ResBlocks with skips, each at half the resolution of the last; attention at the lowest."""

    def __init__(
        self,
        space: StateSpace,
        *,
        width: int,
        levels: int,
        blocks: int,
        lam: bool,
        lam_scale: float,
        lam_std: float,
    ) -> None:
        super().__init__()
        self.space = space
        self.lam_scale = lam_scale
        channels = [width * min(2**level, 2) for level in range(levels)]
        emb = 4 * width
        std = lam_std if lam else None
        C = space.shape[0]
        self.table = nn.Embedding(space.num_states, width)
        self.time = nn.Sequential(nn.Linear(FEATURES, emb), nn.SiLU(), nn.Linear(emb, emb), nn.SiLU())
        self.label = nn.Embedding(space.num_classes + 1, emb) if space.num_classes else None
        self.input = nn.Conv2d(C * width, width, 3, padding=1)
        self.down, skips, last = nn.ModuleList(), [width], width
        for level, c in enumerate(channels):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(ResBlock(last, c, emb, None))
                last = c
                skips.append(c)
            if level < levels - 1:
                stage.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                skips.append(c)
            self.down.append(stage)
        self.middle = nn.ModuleList(
            [ResBlock(last, last, emb, std), Attention(last), ResBlock(last, last, emb, std)]
        )
        self.up = nn.ModuleList()
        for level, c in reversed(list(enumerate(channels))):
            stage = nn.ModuleList()
            for _ in range(blocks + 1):
                stage.append(ResBlock(last + skips.pop(), c, emb, std))
                last = c
            if level > 0:
                stage.append(nn.Conv2d(c, c, 3, padding=1))
            self.up.append(stage)
        self.norm, self.out = group_norm(last), nn.Conv2d(last, C * space.num_states, 3, padding=1)

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L F H W"]:
        emb = self.time(sinusoid(1000 * t, FEATURES, self.out.weight.dtype))
        if self.label is not None and label is not None:
            emb = emb + self.label(label)
        C, H, W = self.space.shape
        h = self.table(x.view(-1, C, H, W)).permute(0, 1, 4, 2, 3).flatten(1, 2)
        h = self.input(h)
        skips = [h]
        for stage in self.down:
            for layer in stage.children():
                h = layer(h, emb) if isinstance(layer, ResBlock) else layer(h)
                skips.append(h)
        L = 1
        features = None
        if lam is not None:
            L = lam.shape[1]
            features = sinusoid(self.lam_scale * lam.flatten(), FEATURES, self.out.weight.dtype)
            h, emb = h.repeat_interleave(L, 0), emb.repeat_interleave(L, 0)
        for layer in self.middle:
            h = layer(h, emb, features) if isinstance(layer, ResBlock) else layer(h)
        for stage in self.up:
            for layer in stage.children():
                if isinstance(layer, ResBlock):
                    skip = skips.pop()
                    h = layer(torch.cat([h, skip.repeat_interleave(L, 0)], 1), emb, features)
                else:
                    h = layer(interpolate(h, size=skips[-1].shape[2:]))
        return silu(self.norm(h)).unflatten(0, (len(x), L))

    def head(self, h: Float[Tensor, "B L F H W"], sites: Sites) -> Float[Tensor, "P L S"]:
        """The last convolution on the lines and channels that hold the sites, then a choice."""
        (C, H, W), S = self.space.shape, self.space.num_states
        first, last = sites.span.start, max(sites.span.start, sites.span.stop - 1)
        channels = slice(first // (H * W), last // (H * W) + 1)
        one = channels.stop - channels.start == 1
        top, bottom = (first // W % H, last // W % H + 1) if one else (0, H)
        lines = h.flatten(0, 1)[:, :, max(0, top - 1) : bottom + 1]
        lines = pad(lines, (0, 0, int(top == 0), int(bottom == H)))
        weight = self.out.weight.unflatten(0, (C, S))[channels].flatten(0, 1)
        bias = self.out.get_parameter("bias").unflatten(0, (C, S))[channels].flatten()
        logits = conv2d(lines, weight, bias, padding=(0, 1)).unflatten(1, (-1, S))
        logits = logits.movedim(2, -1).flatten(1, 3).unflatten(0, h.shape[:2])
        start = channels.start * H * W + top * W
        return sites.seen_from(start, logits.shape[2]).features(logits)


class Config(networks.Config):
    """Small U-Net."""

    width: int = Field(24, ge=4)
    """Channels of the first level; deeper levels have twice as many."""
    levels: int = Field(2, ge=1)
    """Resolutions."""
    blocks: int = Field(2, ge=1)
    """ResBlocks of each level on the way down (one more on the way up)."""
    lam_scale: float = Field(20.0, gt=0)
    """Frequency scale of lambda's features; low is smooth (the paper's networks use 1000)."""
    lam_std: float = Field(0.4, ge=0)
    """Initial size of lambda's weights; too small and the student sits where lambda is ignored."""

    def build(self, space: StateSpace, *, lam: bool) -> UNet:
        if len(space.shape) != 3:
            raise ValueError(
                f"network 'unet' needs images (channels, height, width), not positions of shape {space.shape}"
            )
        return UNet(
            space,
            width=self.width,
            levels=self.levels,
            blocks=self.blocks,
            lam=lam,
            lam_scale=self.lam_scale,
            lam_std=self.lam_std,
        )
