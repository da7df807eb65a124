"""MDLM's diffusion transformer for text (Sahoo et al., arXiv 2406.07524), with the names of its release.

Also the network of SDTT. Bidirectional attention with rotary positions; adaLN conditioning that the release
feeds with noise level 0, so its vectors are constants of the network. Lambda is a last token that is not
rotated (Di4C, Section 5.3).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm, scaled_dot_product_attention, silu

from di4c_cli.core import networks
from di4c_cli.core.networks._embedding import lambda_projection, with_lambda_token
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

SIGMA_FEATURES = 256  # width of the sinusoids of the noise level


class TokenTable(nn.Module):
    """Embedding under the released name `embedding`."""

    def __init__(self, num_states: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(num_states, width))
        nn.init.kaiming_uniform_(self.embedding, a=math.sqrt(5))

    def forward(self, x: Int[Tensor, "B D"]) -> Float[Tensor, "B D H"]:
        return embedding(x, self.embedding)


class NoiseLevel(nn.Module):
    """The conditioning vector: an MLP on the sinusoids of sigma = 0."""

    def __init__(self, cond: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SIGMA_FEATURES, cond), nn.SiLU(), nn.Linear(cond, cond))

    def forward(self) -> Float[Tensor, " C"]:
        half = self.mlp[0].get_parameter("weight").new_ones(SIGMA_FEATURES // 2)
        return silu(self.mlp(torch.cat([half, 0 * half])))  # cos 0 first, then sin 0


class Rotary(nn.Module):
    """Rotary positions, half against half (Su et al., arXiv 2104.09864)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inv_freq: Tensor
        self.register_buffer(
            "inv_freq", 1 / 10000 ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        )

    def _apply(self, fn: Callable[[Tensor], Any], recurse: bool = True) -> nn.Module:
        """A network in bfloat16 keeps these in float32: their error would grow with the position."""
        own = self.inv_freq
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.inv_freq.dtype != own.dtype:
            self.inv_freq = own.to(self.inv_freq.device)
        return self

    def forward(self, length: int, plain: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (T, head width): `length` positions, then `plain` unrotated tokens."""
        position = torch.arange(length, device=self.inv_freq.device, dtype=self.inv_freq.dtype)
        # Angle 0 leaves a token as it is, and costs less than to cut it off and to put it back.
        angle = nn.functional.pad(torch.outer(position, self.inv_freq), (0, 0, 0, plain))
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


class Norm(nn.Module):
    """Layer norm with a weight, then scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(
        self, h: Float[Tensor, "*N H"], shift: Float[Tensor, " H"], scale: Float[Tensor, " H"]
    ) -> Float[Tensor, "*N H"]:
        # Scale and shift are the same for all rows: no pass of their own. Kernels accumulate in float32, and
        # under autocast `h` is float32 as the weight is.
        weight = self.weight * (1 + scale)
        return layer_norm(h, h.shape[-1:], weight, shift.to(weight.dtype), eps=1e-5)


def modulation(cond: int, width: int, vectors: int) -> nn.Linear:
    """From the conditioning to the vectors of adaLN; zero at first, as released."""
    layer = nn.Linear(cond, vectors * width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the conditioning."""

    def __init__(self, width: int, heads: int, cond: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = Norm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.norm2 = Norm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.adaLN_modulation = modulation(cond, width, 6)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        h: Float[Tensor, "N T H"],
        c: Float[Tensor, " C"],
        cos: Float[Tensor, "T h"],
        sin: Float[Tensor, "T h"],
    ) -> Float[Tensor, "N T H"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6)
        qkv = self.attn_qkv(self.norm1(h, shift1, scale1)).unflatten(-1, (3, self.heads, -1))
        qk, v = qkv.permute(2, 0, 3, 1, 4).split([2, 1])
        q, k = torch.addcmul(qk * cos, qk.roll(qk.shape[-1] // 2, -1), sin)
        z = scaled_dot_product_attention(q, k, v[0]).transpose(1, 2).flatten(2)
        h = torch.addcmul(h, gate1, self.dropout(self.attn_out(z)))
        return torch.addcmul(h, gate2, self.dropout(self.mlp(self.norm2(h, shift2, scale2))))


class Output(nn.Module):
    """The last norm, and the linear layer to logits."""

    def __init__(self, num_states: int, width: int, cond: int) -> None:
        super().__init__()
        self.norm_final = Norm(width)
        self.linear = nn.Linear(width, num_states)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.adaLN_modulation = modulation(cond, width, 2)

    def forward(self, h: Float[Tensor, "N D H"], c: Float[Tensor, " C"]) -> Float[Tensor, "N D H"]:
        """Features that `linear` turns into logits."""
        return self.norm_final(h, *self.adaLN_modulation(c).chunk(2))


class MDLM(networks.Network):
    """Logits as they are, before SUBS; the network does not see t."""

    sees_time = False

    def __init__(
        self,
        space: StateSpace,
        *,
        width: int,
        depth: int,
        heads: int,
        cond: int,
        dropout: float,
        lam: bool,
        lam_scale: float,
    ) -> None:
        super().__init__()
        self.space = space
        self.lam_scale = lam_scale
        self.vocab_embed = TokenTable(space.num_states, width)
        self.sigma_map = NoiseLevel(cond)
        self.rotary_emb = Rotary(width // heads)
        self.blocks = nn.ModuleList(Block(width, heads, cond, dropout) for _ in range(depth))
        self.output_layer = Output(space.num_states, width, cond)
        self.lam_projection = lambda_projection(width) if lam else None

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D H"]:
        B, D = x.shape
        h, L, plain = self.vocab_embed(x), 1, 0
        if lam is not None and self.lam_projection is not None:
            h = with_lambda_token(h, lam, self.lam_scale, self.lam_projection)
            L, plain = lam.shape[1], 1
        c = self.sigma_map()
        cos, sin = self.rotary_emb(D, plain, h.dtype)
        for block in self.blocks:
            h = block(h, c, cos, sin)
        return self.output_layer(h[:, :D], c).unflatten(0, (B, L))

    def head(self, h: Float[Tensor, "B L D H"], sites: Sites) -> Float[Tensor, "P L S"]:
        return self.output_layer.linear(sites.features(h))


class Config(networks.Config):
    """MDLM's diffusion transformer; the defaults are the released small size."""

    width: int = Field(768, ge=2)
    """Width of the residual stream; an even multiple of `heads`."""
    depth: int = Field(12, ge=1)
    """Blocks."""
    heads: int = Field(12, ge=1)
    """Attention heads."""
    cond: int = Field(128, ge=1)
    """Width of the conditioning vector."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout while training."""
    lam_scale: float = Field(1000.0, gt=0)
    """Frequency scale of lambda's features."""

    def build(self, space: StateSpace, *, lam: bool) -> MDLM:
        """The network on a state space.

        Raises:
            ValueError: heads that cannot be rotated, or a space with class labels, which it cannot take.
        """
        if self.width % (2 * self.heads):
            raise ValueError(
                f"network 'mdlm': width {self.width} is not an even multiple of {self.heads} heads"
            )
        if space.num_classes:
            raise ValueError(
                f"network 'mdlm' takes no class labels: set classes = 0, not {space.num_classes}"
            )
        return MDLM(
            space,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            cond=self.cond,
            dropout=self.dropout,
            lam=lam,
            lam_scale=self.lam_scale,
        )
