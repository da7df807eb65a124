"""k-means over vectors of bytes, with the same result on every machine.

Points are whole numbers 0..255 and centres whole multiples of 1/256, so that every product and every sum
below is exact in float64: neither the number of threads nor the BLAS has a say in who is nearest.
"""

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from di4c_cli.core import progress
from di4c_cli.core.codecs._nearest import ROWS, nearest_and_distance
from di4c_cli.core.space import uniform

GRID = 256  # steps of a centre within one grey level
ROUNDS = 200
WORK = "fitting the codes"
ENOUGH = 1e-4  # the share of the error that a round must take off; seeds differ by more


def kmeans(
    points: UInt8[Tensor, "n C"], num: int, generator: torch.Generator
) -> tuple[Float[Tensor, "{num} C"], float]:
    """Lloyd's algorithm from a k-means++ start (Arthur & Vassilvitskii 2007).

    Args:
        generator: on the CPU.

    Returns:
        The centres from the lowest mean to the highest, and the mean squared error of one number.

    Raises:
        ValueError: fewer than `num` points that differ.
    """
    centres, before = _start(points, num, generator), math.inf
    for done in range(ROUNDS):
        progress.report(num + done, num + ROUNDS, WORK)
        index, distance = nearest_and_distance(points, centres)
        error = distance.sum().item()
        if error > (1 - ENOUGH) * before or error == 0:
            break
        centres, before = _means(points, index, distance, num), error
    progress.report(num + ROUNDS, num + ROUNDS, WORK)
    centres = centres[centres.sum(-1).argsort(stable=True)]
    return centres, nearest_and_distance(points, centres)[1].sum().item() / points.numel()


def _start(points: UInt8[Tensor, "n C"], num: int, generator: torch.Generator) -> Float[Tensor, "{num} C"]:
    """Points drawn one by one, each with a chance in proportion to its squared distance from those before."""
    weight = torch.ones(len(points), dtype=torch.float64)
    chosen: list[int] = []
    for count in range(num):
        progress.report(count, num + ROUNDS, WORK)
        cdf = weight.cumsum(0)
        if not len(points) or cdf[-1] == 0:
            raise ValueError(f"{num} codes, but only {count} patches that differ")
        u = uniform(1, generator=generator, device="cpu")
        chosen.append(int(torch.searchsorted(cdf, u * cdf[-1], right=True).clamp_(max=len(points) - 1)))
        distance = nearest_and_distance(points, points[chosen[-1:]].double())[1]
        weight = distance if count == 0 else torch.minimum(weight, distance)
    return points[chosen].double()


def _means(
    points: UInt8[Tensor, "n C"], index: Int[Tensor, " n"], distance: Float[Tensor, " n"], num: int
) -> Float[Tensor, "{num} C"]:
    """The mean of every centre's points, on the grid; a centre without any goes to the farthest points."""
    total = torch.zeros(num, points.shape[1], dtype=torch.float64)
    for rows, own in zip(points.split(ROWS), index.split(ROWS), strict=True):
        total.index_add_(0, own, rows.double())
    count = index.bincount(minlength=num)
    means = (total / count.clamp(min=1)[:, None] * GRID).round() / GRID
    if (empty := count == 0).any():
        far = distance.argsort(descending=True, stable=True)[: int(empty.sum())]
        means[empty] = points[far].double()
    return means
