"""A causal transformer: each token from those before it (Vaswani et al. 2017, pre-norm, rotary positions)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

BASE = 10_000.0  # of the rotary wavelengths


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Float[Tensor, "N D H"], turn: Float[Tensor, "2 D half"]) -> Float[Tensor, "N D H"]:
        q, k, v = self.qkv(self.norm_1(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(rotated(q, turn), rotated(k, turn), v, is_causal=True)
        h = h + self.out(attended.transpose(1, 2).flatten(2))
        return h + self.mlp(self.norm_2(h))


class Causal(nn.Module):
    """Logits of every token of a row given the ones before; the first is told that there are none."""

    def __init__(self, num_states: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.begin = num_states
        self.embed = nn.Embedding(num_states + 1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_states)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.pairs = width // heads // 2

    def forward(self, rows: Int[Tensor, "N D"]) -> Float[Tensor, "N D S"]:
        h = self.embed(F.pad(rows[:, :-1], (1, 0), value=self.begin))
        turn = turns(rows.shape[1], self.pairs, h.device)
        for block in self.blocks:
            h = block(h, turn)
        return self.head(self.norm(h))

    def token_nats(self, rows: Int[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """-log p of each token."""
        return F.cross_entropy(self(rows).mT, rows, reduction="none")


def turns(length: int, half: int, device: torch.device) -> Float[Tensor, "2 {length} {half}"]:
    """Cosine and sine of each position's angles."""
    rate = BASE ** -(torch.arange(half, device=device) / half)
    angle = torch.arange(length, device=device)[:, None] * rate
    return torch.stack([angle.cos(), angle.sin()])


def rotated(x: Float[Tensor, "N heads D E"], turn: Float[Tensor, "2 D half"]) -> Float[Tensor, "N heads D E"]:
    """Queries or keys, turned by their positions."""
    a, b = x.chunk(2, -1)
    cos, sin = turn
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
