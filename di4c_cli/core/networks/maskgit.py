"""The transformer of MaskGIT (its public re-implementation for ImageNet at 256 and 512 pixels).

Codes, mask, classes and "no class" share one table, which is the output layer too. The sequence is the image
row by row and then the class; Di4C's student has lambda as one more token, without a position.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from di4c_cli.core import networks
from di4c_cli.core.networks._embedding import lambda_projection, with_lambda_token
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

EPS = 1e-12  # of the norms outside the blocks


class Attention(nn.Module):
    """Bidirectional attention with the parameters of torch's module, but none of its attention weights."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.mha = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, h: Float[Tensor, "N M H"]) -> Float[Tensor, "N M H"]:
        qkv = linear(h, self.mha.in_proj_weight, self.mha.in_proj_bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        z = scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return linear(z.transpose(1, 2).flatten(2), self.mha.out_proj.weight, self.mha.out_proj.bias)


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, h: Float[Tensor, "N M H"]) -> Float[Tensor, "N M H"]:
        return self.net(h)


class Residual(nn.Module):
    """h + f(norm(h))."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, h: Float[Tensor, "N M H"]) -> Float[Tensor, "N M H"]:
        return h + self.fn(self.norm(h))


class Transformer(nn.Module):
    """Blocks of attention and feed-forward."""

    def __init__(self, width: int, depth: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                Residual(width, Attention(width, heads, dropout)),
                Residual(width, FeedForward(width, hidden, dropout)),
            )
            for _ in range(depth)
        )

    def forward(self, h: Float[Tensor, "N M H"]) -> Float[Tensor, "N M H"]:
        for layer in self.layers:
            h = layer(h)
        return h


class MaskGIT(networks.Network):
    """Parameters named as in the published checkpoints; lambda's are `lam_projection`."""

    sees_time = False

    def __init__(
        self,
        space: StateSpace,
        *,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        dropout: float,
        lam: bool,
        lam_scale: float,
    ) -> None:
        super().__init__()
        self.space = space
        self.lam_scale = lam_scale
        D, tokens = space.num_dims, space.num_states + space.num_classes + 1
        self.pos_emb = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, D + 1, width), std=0.02))
        self.bias = nn.Parameter(torch.zeros(D + 1, tokens))
        self.tok_emb = nn.Embedding(tokens, width)
        self.first_layer = nn.Sequential(
            nn.LayerNorm(width, eps=EPS),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=EPS),
            nn.Dropout(dropout),
            nn.Linear(width, width),
        )
        self.transformer = Transformer(width, depth, heads, hidden, dropout)
        self.last_layer = nn.Sequential(
            nn.LayerNorm(width, eps=EPS),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=EPS),
        )
        self.lam_projection = lambda_projection(width) if lam else None

    def body(
        self,
        x: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        lam: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D H"]:
        """Features before the tied output; t is not looked at. No label is label `space.num_classes`."""
        B, D = x.shape
        if label is None:
            label = x.new_full((B,), self.space.num_classes)
        h = self.tok_emb(torch.cat([x, (self.space.num_states + label)[:, None]], 1)) + self.pos_emb
        if lam is not None and self.lam_projection is not None:
            h = with_lambda_token(h, lam, self.lam_scale, self.lam_projection)
        h = self.transformer(self.first_layer(h))
        # The last layer acts on each position alone: the tokens of class and lambda need none of it.
        return self.last_layer(h[:, :D]).unflatten(0, (B, -1))

    def head(self, h: Float[Tensor, "B L D H"], sites: Sites) -> Float[Tensor, "P L S"]:
        """Logits of the codes and the mask: the rows of the table that are no classes."""
        S = self.space.num_states
        logits = linear(sites.features(h), self.tok_emb.weight[:S])
        return logits.add_(self.bias[:, :S][sites.position][:, None])


class Config(networks.Config):
    """MaskGIT's transformer."""

    width: int = Field(768, ge=1)
    """Width of the residual stream; a multiple of `heads`."""
    depth: int = Field(24, ge=1)
    """Blocks."""
    heads: int = Field(16, ge=1)
    """Attention heads."""
    hidden: int = Field(3072, ge=1)
    """Width inside the feed-forward layers."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of features dropped in training."""
    lam_scale: float = Field(1000.0, gt=0)
    """Frequency scale of lambda's features."""

    def build(self, space: StateSpace, *, lam: bool) -> MaskGIT:
        """The network on codes and a mask.

        Raises:
            ValueError: a space without mask, or heads that do not divide the width.
        """
        if space.mask_id is None:
            raise ValueError("network 'maskgit' needs a masked process: its states have no mask")
        if self.width % self.heads:
            raise ValueError(f"network 'maskgit': width {self.width} is not a multiple of {self.heads} heads")
        return MaskGIT(
            space,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            hidden=self.hidden,
            dropout=self.dropout,
            lam=lam,
            lam_scale=self.lam_scale,
        )
