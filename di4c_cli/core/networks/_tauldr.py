"""Layers of tauLDR's U-Net, with the parameter names of the published checkpoints.

The order of the floating-point operations is the published one too: the tails of the truncated logistic show
a change of one bit in float32.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout, interpolate, linear, pad, silu


def group_norm(channels: int) -> nn.GroupNorm:
    groups = min(channels // 4, 32)
    if channels % groups:
        raise ValueError(
            f"network 'tauldr': {channels} channels do not divide into {groups} groups; "
            "multiples of 32 always do"
        )
    return nn.GroupNorm(groups, channels, eps=1e-6)


def zero_bias(width_in: int, width: int) -> nn.Linear:
    layer = nn.Linear(width_in, width)
    nn.init.zeros_(layer.bias)
    return layer


def features(z: Float[Tensor, "*rows"], width: int, dtype: torch.dtype) -> Float[Tensor, "*rows {width}"]:
    """`sinusoid`, but with its angles in the network's own precision, float32 at least."""
    wide = torch.promote_types(dtype, torch.float32)
    k = torch.arange(width // 2, device=z.device, dtype=wide)
    angle = z.to(wide)[..., None] * torch.exp(k * (-math.log(10000) / (width // 2 - 1)))
    return torch.cat([angle.sin(), angle.cos()], -1).to(dtype)


def embedding(z: Float[Tensor, "N F"], layers: nn.ModuleList) -> Float[Tensor, "N E"]:
    first, second = layers
    return silu(second(silu(first(z))))


def repeated(h: Float[Tensor, "B ..."], rows: int) -> Float[Tensor, "{rows} ..."]:
    """What belongs to a datum, once for each of its draws of lambda."""
    return h if len(h) == rows else h.repeat_interleave(rows // len(h), 0)


class NiN(nn.Module):
    """Linear map of the channels; the weight is (in, out)."""

    def __init__(self, channels_in: int, channels: int, scale: float = 0.1) -> None:
        super().__init__()
        bound = math.sqrt(6 * scale / (channels_in + channels))
        self.W = nn.Parameter(torch.empty(channels_in, channels).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(channels))

    def forward(self, h: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows K"]:
        return linear(h, self.W.t(), self.b)


class ResBlock(nn.Module):
    """Two 3x3 convolutions with t and lambda added between them."""

    def __init__(
        self, channels_in: int, channels: int, emb: int, dropout: float, lam_std: float | None
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.groupnorm0 = group_norm(channels_in)
        self.conv0 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.dense0 = zero_bias(emb, channels)
        if lam_std is not None:
            self.lam_dense = zero_bias(emb, channels)
            nn.init.normal_(self.lam_dense.weight, std=lam_std)
        self.groupnorm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.nin = NiN(channels_in, channels) if channels_in != channels else None

    def forward(
        self,
        h: Float[Tensor, "B C H W"],
        emb: Float[Tensor, "b E"],
        lam: Float[Tensor, "N E"] | None = None,
    ) -> Float[Tensor, "N K H W"]:
        """Rows of h that still belong to data, not to draws of lambda, pass the first convolution as such."""
        z = self.conv0(silu(self.groupnorm0(h)))
        z += repeated(self.dense0(emb), len(z))[:, :, None, None]
        if lam is not None:
            z = repeated(z, len(lam))
            z += self.lam_dense(lam)[:, :, None, None]
        z = self.conv1(dropout(silu(self.groupnorm1(z)), self.dropout, self.training))
        skip = h if self.nin is None else self.nin(h.movedim(1, -1)).movedim(-1, 1)
        return (repeated(skip, len(z)) + z) / math.sqrt(2)


class Attention(nn.Module):
    """Single-head self-attention over the pixels; they are too few for a fused kernel to matter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.GroupNorm_0 = group_norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2 = (NiN(channels, channels) for _ in range(3))
        self.NIN_3 = NiN(channels, channels, scale=1e-10)

    def forward(self, h: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        z = self.GroupNorm_0(h).flatten(2).transpose(1, 2).contiguous()
        q, k, v = self.NIN_0(z), self.NIN_1(z), self.NIN_2(z)
        weights = (q @ k.transpose(1, 2) * h.shape[1] ** -0.5).softmax(-1)
        z = self.NIN_3(weights @ v)
        return (h + z.transpose(1, 2).unflatten(2, h.shape[2:])) / math.sqrt(2)


class Downsample(nn.Module):
    """Strided convolution; the padding is on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, h: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H//2 W//2"]:
        return self.conv(pad(h, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbours and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C 2*H 2*W"]:
        return self.conv(interpolate(h, scale_factor=2.0))
