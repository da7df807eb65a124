"""The nearest of a table of codes: what encoding means in a vector-quantised space."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

ROWS = 2**13  # points at a time: (ROWS, K) distances, never (n, K, C) differences


def nearest(points: Float[Tensor, "n C"], codes: Float[Tensor, "K C"]) -> Int[Tensor, " n"]:
    """argmin_k |x - c_k|^2 for each point, the first of equals; in float64."""
    return torch.cat([_half(rows.double(), codes.double()).argmin(-1) for rows in points.split(ROWS)])


def nearest_and_distance(
    points: UInt8[Tensor, "n C"], codes: Float[Tensor, "K C"]
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The same for points of bytes, with the squared distances."""
    pieces = []
    for rows in points.split(ROWS):
        x = rows.double()
        half, index = _half(x, codes.double()).min(-1)
        pieces.append((index, x.square().sum(-1) + 2 * half))
    index, distance = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return index, distance


def _half(x: Float[Tensor, "n C"], codes: Float[Tensor, "K C"]) -> Float[Tensor, "n K"]:
    """|c|^2 / 2 - x.c: half the squared distance but for |x|^2, which is the same for every code."""
    return torch.addmm(codes.square().sum(-1) / 2, x, codes.T, alpha=-1)
