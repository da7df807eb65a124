"""Distances between two sets of numbers."""

import torch
from jaxtyping import Float
from torch import Tensor


def wasserstein(x: Float[Tensor, " n"], y: Float[Tensor, " m"]) -> float:
    """Wasserstein-1 of two samples of numbers, in their unit: the area between their cumulative laws."""
    both = torch.cat([x, y]).double().sort().values
    below = [torch.searchsorted(z.double().sort().values, both[:-1], right=True) / len(z) for z in (x, y)]
    return ((below[0] - below[1]).abs() * both.diff()).sum().item()
