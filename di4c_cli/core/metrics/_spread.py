"""A part of a split that stands for the whole."""

import torch

from di4c_cli.core.datasets import Split
from di4c_cli.core.space import Batch


def spread(split: Split, num: int) -> Batch:
    """`num` items evenly spaced over the split (all, if there are fewer).

    Splits need not be shuffled: the first half of MNIST's test images is the easier one.
    """
    return split[torch.linspace(0, len(split) - 1, min(num, len(split))).round().long()]
