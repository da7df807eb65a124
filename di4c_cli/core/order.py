"""What a training step sees depends on the seed and the step alone: a resume needs no random state."""

from functools import lru_cache

import torch
from torch import Tensor


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """A well-mixed 63-bit seed for one part of one step (splitmix64): randomness depends on nothing else."""
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + part * 0x94D049BB133111EB + 1) & (2**64 - 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ (z >> shift)) * factor) & (2**64 - 1)
    return (z ^ (z >> 31)) >> 1


def num_parts(batch_size: int, accumulate: int, ranks: int) -> int:
    """Parts in which a batch is computed: at least `accumulate`, equally many on each rank, none empty.

    What a part sees depends on its number alone, not on the rank that has it.
    """
    return min(-(-accumulate // ranks), batch_size // ranks) * ranks


def data_indices(size: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Which data points step `step` sees: consecutive pieces of one fresh permutation an epoch."""
    position = step * batch_size + torch.arange(batch_size)
    epochs, offsets = position // size, position % size
    index = torch.empty_like(position)
    for epoch in epochs.unique().tolist():
        chosen = epochs == epoch
        index[chosen] = _permutation(size, seed, epoch)[offsets[chosen]]
    return index


@lru_cache(maxsize=2)  # a step meets two epochs at most, and millions of rows take a while to shuffle
def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(step_seed(seed, epoch, part=-1))
    return torch.randperm(size, generator=generator)
