"""The U-Net of tauLDR for pixels of many levels, with the lambda of Di4C's released student.

Two numbers for each position, the place and the log-scale of a truncated logistic, give all S logits.
Lambda is added in every ResBlock, in two stages: one embedding for the way down, from lambda and t, and one
for the middle and the way up, which also sees the mean of the bottleneck.
"""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import silu

from di4c_cli.core import networks
from di4c_cli.core.networks._logistic import truncated_logistic
from di4c_cli.core.networks._tauldr import (
    Attention,
    Downsample,
    ResBlock,
    Upsample,
    embedding,
    features,
    group_norm,
    repeated,
    zero_bias,
)
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

TIME_SCALE = 1000.0


class TauLDR(networks.Network):
    """Parameters named as in the published checkpoints, those of lambda apart (their names hold "lam")."""

    def __init__(
        self,
        space: StateSpace,
        *,
        channels: int,
        multipliers: list[int],
        blocks: int,
        attention: list[int],
        features: int,
        dropout: float,
        lam: bool,
        lam_scale: float,
        lam_std: float,
    ) -> None:
        super().__init__()
        self.space, self.takes_lam = space, lam
        self.features, self.lam_scale = features, lam_scale
        emb, widths = 4 * features, [channels * m for m in multipliers]

        def two_layers() -> nn.ModuleList:
            return nn.ModuleList([zero_bias(features, emb), zero_bias(emb, emb)])

        def block(channels_in: int, channels: int) -> ResBlock:
            return ResBlock(channels_in, channels, emb, dropout, lam_std if lam else None)

        # The order of registration is that of the published lists of averaged weights.
        self.temb_modules = two_layers()
        if lam:
            self.lam_modules, self.lam_h_modules = two_layers(), two_layers()
            self.tlam_mix = zero_bias(2 * features, features)
        self.input_conv = nn.Conv2d(space.shape[0], channels, 3, padding=1)
        self.downsampling_modules = nn.ModuleList()
        last, skips = channels, [channels]
        for level, width in enumerate(widths):
            if level > 0:
                self.downsampling_modules.append(Downsample(last))
                skips.append(last)
            for _ in range(blocks):
                self.downsampling_modules.append(block(last, width))
                if level in attention:
                    self.downsampling_modules.append(Attention(width))
                last = width
                skips.append(width)
        if lam:
            self.h_t_lam_mix = zero_bias(2 * features + last, features)
        self.middle_modules = nn.ModuleList([block(last, last), Attention(last), block(last, last)])
        self.upsampling_modules = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.upsampling_modules.append(block(last + skips.pop(), width))
                if level in attention:
                    self.upsampling_modules.append(Attention(width))
                last = width
            if level > 0:
                self.upsampling_modules.append(Upsample(width))
        self.output_modules = nn.ModuleList(
            [group_norm(last), nn.Conv2d(last, 2 * space.shape[0], 3, padding=1)]
        )

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D 2"]:
        """Place mu in [-1, 1] and log-scale of each position, in float32 at least."""
        dtype = self.input_conv.weight.dtype
        wide = torch.promote_types(dtype, torch.float32)
        pixels = 2 * x.unflatten(1, self.space.shape).to(wide) / (self.space.num_states - 1) - 1
        time = features(TIME_SCALE * t.to(wide), self.features, dtype)
        emb = embedding(time, self.temb_modules)
        seen = lam_emb = None
        if lam is not None and self.takes_lam:
            latent = features(self.lam_scale * lam.flatten().to(wide), self.features, dtype)
            seen = torch.cat([latent, repeated(time, lam.numel())], 1)
            lam_emb = embedding(silu(self.tlam_mix(seen)), self.lam_modules)

        h = self.input_conv(pixels.to(dtype))
        skips = [h]
        for layer in self.downsampling_modules:
            h = layer(h, emb, lam_emb) if isinstance(layer, ResBlock) else layer(h)
            if isinstance(layer, Attention):
                skips.pop()
            skips.append(h)
        if seen is not None:
            seen = torch.cat([seen, h.mean(3).mean(2)], 1)
            lam_emb = embedding(silu(self.h_t_lam_mix(seen)), self.lam_h_modules)
        for layer in self.middle_modules:
            h = layer(h, emb, lam_emb) if isinstance(layer, ResBlock) else layer(h)
        for layer in self.upsampling_modules:
            if isinstance(layer, ResBlock):
                h = layer(torch.cat([h, repeated(skips.pop(), len(h))], 1), emb, lam_emb)
            else:
                h = layer(h)
        norm, conv = self.output_modules
        out = conv(silu(norm(h))).to(wide).unflatten(1, (2, -1)).unflatten(0, (len(x), -1))
        params = torch.stack([torch.tanh(pixels[:, None] + out[:, :, 0]), out[:, :, 1]], -1)
        return params.flatten(2, 4)

    def head(self, h: Float[Tensor, "B L D 2"], sites: Sites) -> Float[Tensor, "P L S"]:
        """Logits, in float32 at least."""
        return truncated_logistic(sites.features(h), self.space.num_states)


class Config(networks.Config):
    """U-Net of tauLDR."""

    channels: int = Field(128, ge=4)
    """Channels of the first level; a multiple of 32 always fits the norms."""
    multipliers: list[Annotated[int, Field(ge=1)]] = Field([1, 2, 2, 2], min_length=1)
    """Channels of each level, as multiples of `channels`; every level halves the sides of the image."""
    blocks: int = Field(2, ge=1)
    """ResBlocks of each level on the way down (one more on the way up)."""
    attention: list[Annotated[int, Field(ge=0)]] = Field([1])
    """Levels with self-attention, counted from 0; the bottleneck always has it."""
    features: int = Field(128, ge=4, multiple_of=2)
    """Width of the features of t and lambda; their embeddings are four times as wide."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of features dropped in training."""
    lam_scale: float = Field(1000.0, gt=0)
    """Frequency scale of lambda's features."""
    lam_std: float = Field(0.0, ge=0)
    """Initial size of lambda's weights in the blocks; at 0 (published) the student starts as its teacher."""

    def build(self, space: StateSpace, *, lam: bool) -> TauLDR:
        """The network on images.

        Raises:
            ValueError: no image, one whose sides do not divide, class labels, or sizes that do not fit.
        """
        if len(space.shape) != 3:
            raise ValueError(
                "network 'tauldr' needs images (channels, height, width), "
                f"not positions of shape {space.shape}"
            )
        if space.num_classes:
            raise ValueError(
                f"network 'tauldr' takes no class labels: set classes = 0, not {space.num_classes}"
            )
        levels, (_, height, width) = len(self.multipliers), space.shape
        stride = 2 ** (levels - 1)
        if height % stride or width % stride:
            raise ValueError(
                f"network 'tauldr': {levels} levels need sides that {stride} divides, not {height} x {width}"
            )
        if beyond := [level for level in self.attention if level >= levels]:
            raise ValueError(
                f"network 'tauldr': attention at level {beyond[0]}, and the last is {levels - 1}"
            )
        return TauLDR(
            space,
            channels=self.channels,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention=self.attention,
            features=self.features,
            dropout=self.dropout,
            lam=lam,
            lam_scale=self.lam_scale,
            lam_std=self.lam_std,
        )
