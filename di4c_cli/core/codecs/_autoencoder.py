"""The VQGAN: convolutions from an image to a small grid of vectors, a table of codes, and back.

Esser et al. 2021, "Taming transformers for high-resolution image synthesis". Modules bear the names of the
released files, so that a `state_dict` is one of those without its `loss.*`.
"""

from itertools import pairwise
from typing import Annotated

from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from di4c_cli.core.codecs._nearest import nearest

GROUPS = 32  # of every group norm

Small = Annotated[int, Field(ge=1, le=16)]
Wide = Annotated[int, Field(ge=1, le=2**12)]


class Architecture(BaseModel):
    """Sizes, by the names that a released `model.yaml` gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ch: Wide
    """Channels of the first level."""
    ch_mult: tuple[Small, ...] = Field(min_length=1, max_length=10)
    """Channels of each level as multiples of `ch`; between levels, the resolution halves."""
    num_res_blocks: Small
    """Residual blocks of each level of the encoder; the decoder has one more."""
    attn_resolutions: tuple[Wide, ...] = Field(max_length=10)
    """Resolutions (pixels a side) whose blocks have attention behind them."""
    z_channels: Wide
    """Channels between encoder and `quant_conv`."""
    embed_dim: Wide
    """Numbers of one code."""
    n_embed: int = Field(ge=1, le=2**24)
    """Codes."""
    resolution: Wide
    """Pixels a side of the images."""
    in_channels: Small = 3
    out_ch: Small = 3

    @model_validator(mode="after")
    def _divisible(self) -> "Architecture":
        if self.ch % GROUPS:
            raise ValueError(f"ch is {self.ch}, not a multiple of {GROUPS}")
        if self.resolution % self.reduction:
            raise ValueError(f"resolution is {self.resolution}, not a multiple of {self.reduction}")
        return self

    @property
    def reduction(self) -> int:
        """Pixels a side that one code stands for."""
        return 2 ** (len(self.ch_mult) - 1)

    @property
    def grid(self) -> int:
        """Codes a side."""
        return self.resolution // self.reduction

    @property
    def widths(self) -> list[int]:
        """Channels of each level, the finest first."""
        return [self.ch * multiple for multiple in self.ch_mult]

    def attends(self, level: int) -> bool:
        return self.resolution >> level in self.attn_resolutions


class AutoEncoder(nn.Module):
    """Images in [-1, 1] to codes and back."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.architecture = a
        self.encoder = Encoder(a)
        self.decoder = Decoder(a)
        self.quantize = Table(a)
        self.quant_conv = nn.Conv2d(a.z_channels, a.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(a.embed_dim, a.z_channels, 1)

    def latents(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N E h w"]:
        """Vectors before they are quantised."""
        return self.quant_conv(self.encoder(images))

    def encode(self, images: Float[Tensor, "N C H W"]) -> Int[Tensor, "N D"]:
        """The nearest code (L2) of every vector, row by row of the grid."""
        z = self.latents(images).permute(0, 2, 3, 1)
        return nearest(z.flatten(0, 2), self.quantize.embedding.weight).view(-1, z.shape[1] * z.shape[2])

    def decode(self, codes: Int[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        """Images near [-1, 1], of codes row by row."""
        side = self.architecture.grid
        z = self.quantize.embedding(codes).unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return self.decoder(self.post_quant_conv(z))


class Table(nn.Module):
    """The vectors of the codes."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.embedding = nn.Embedding(a.n_embed, a.embed_dim)


class Encoder(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        widths = a.widths
        self.conv_in = nn.Conv2d(a.in_channels, a.ch, 3, padding=1)
        self.down = nn.ModuleList(
            Level(width_in, width, a.num_res_blocks, a.attends(i), downsample=i < len(widths) - 1)
            for i, (width_in, width) in enumerate(pairwise([a.ch, *widths]))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], a.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    def __init__(self, a: Architecture) -> None:
        super().__init__()
        widths = a.widths
        self.conv_in = nn.Conv2d(a.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        # Level i has the resolution of the encoder's; the input comes from level i + 1.
        self.up = nn.ModuleList(
            Level(width_in, width, a.num_res_blocks + 1, a.attends(i), upsample=i > 0)
            for i, (width, width_in) in enumerate(pairwise([*widths, widths[-1]]))
        )
        self.norm_out = norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], a.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Level(nn.Module):
    """Residual blocks at one resolution, each with attention behind it or none, and the way to the next."""

    def __init__(
        self,
        width_in: int,
        width: int,
        blocks: int,
        attends: bool,
        *,
        downsample: bool = False,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(Residual(width if b else width_in, width) for b in range(blocks))
        self.attn = nn.ModuleList(Attention(width) for _ in range(blocks if attends else 0))
        self.downsample = Downsample(width) if downsample else None
        self.upsample = Upsample(width) if upsample else None

    def forward(self, h: Tensor) -> Tensor:
        for number, block in enumerate(self.block):
            h = block(h)
            if len(self.attn):
                h = self.attn[number](h)
        for change in (self.downsample, self.upsample):
            h = change(h) if change is not None else h
        return h


class Middle(nn.Module):
    """The blocks at the coarsest resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = Residual(width, width)
        self.attn_1 = Attention(width)
        self.block_2 = Residual(width, width)

    def forward(self, h: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(h)))


class Residual(nn.Module):
    """Two convolutions, each behind a norm and a swish, beside a shortcut."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.norm1 = norm(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(width_in, width, 1) if width_in != width else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class Attention(nn.Module):
    """One head over all positions of the grid, added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).mT[:, None] for conv in (self.q, self.k, self.v))  # (N, 1, H W, C)
        attended = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.unflatten(2, x.shape[2:])
        return x + self.proj_out(attended)


class Downsample(nn.Module):
    """Half the resolution; the released networks pad below and on the right only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the resolution, each pixel repeated and then convolved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, eps=1e-6)
