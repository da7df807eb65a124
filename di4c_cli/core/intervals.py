"""95 % intervals of figures, and of the difference of two figures.

A figure that keeps its items (`PerItem`) is resampled by its items: the percentile bootstrap; a share of them
that have something has Wilson's interval. What stands for a model is a list of its figures, one a seed.

- Items that are samples are other ones for each model and seed: those of all seeds are pooled, and two models
  are resampled independently.
- Items that are held-out data are the same for all: each is averaged over the seeds first, and two models are
  resampled together, so that what makes an item hard for both cancels. The seeds are not resampled: their
  noise is part of what differs from item to item.

Figures without items, such as a Frechet distance, get Student's t over the seeds, two models paired by seed:
at least two seeds are needed, and with fewer than four the interval is wide.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.metrics import PerItem

LEVEL = 0.95
RESAMPLES = 1000
AT_ONCE = 2**22  # entries of one piece of the resampled items

Values = Sequence[float | PerItem]
"""One figure of one model at each seed: all with their items, or none."""
Interval = tuple[float, float]


def estimate(values: Values) -> float:
    """The figure over all seeds: of all items, or the mean of what has none."""
    items = _items(values)
    return sum(map(float, _numbers(values))) / len(values) if items is None else items.figure


def interval(values: Values) -> Interval | None:
    """Of the figure over all seeds; None for a single one without items, or of one item."""
    items = _items(values)
    if items is None:
        return _student(torch.tensor(_numbers(values), dtype=torch.float64))
    if len(items.total) < 2:
        return None
    if not items.exponential and (items.count == 1).all() and ((items.total == 0) | (items.total == 1)).all():
        return _wilson(items.figure, len(items.total))
    return _percentiles(_resampled([items], torch.Generator().manual_seed(0))[0])


def of_difference(a: Values, b: Values) -> Interval | None:
    """Of a's figure less b's, both of the same seeds; None for one seed without items, or of one item."""
    ours, theirs = _items(a), _items(b)
    if ours is None or theirs is None:
        return _student(torch.tensor(_numbers(a), dtype=torch.float64) - torch.tensor(_numbers(b)))
    if min(len(ours.total), len(theirs.total)) < 2:
        return None
    generator = torch.Generator().manual_seed(0)
    if ours.held_out and theirs.held_out and len(ours.total) == len(theirs.total):
        first, second = _resampled([ours, theirs], generator)
    else:
        (first,), (second,) = _resampled([ours], generator), _resampled([theirs], generator)
    return _percentiles(first - second)


def student_t(degrees: int) -> float:
    """The t that Student's distribution exceeds in size with probability 5 %.

    t = sqrt(degrees) tan(angle), and the angle has a density proportional to cos^(degrees - 1).
    """
    angle = torch.linspace(0, math.pi / 2, 200_001, dtype=torch.float64)
    mass = torch.cumulative_trapezoid(angle.cos() ** (degrees - 1), angle)
    return math.sqrt(degrees) * math.tan(angle[torch.searchsorted(mass, LEVEL * mass[-1]) + 1])


def _student(values: Float[Tensor, " N"]) -> Interval | None:
    if len(values) < 2:
        return None
    mean = values.mean().item()
    reach = student_t(len(values) - 1) * values.std().item() / math.sqrt(len(values))
    return mean - reach, mean + reach


def _wilson(share: float, num: int) -> Interval:
    """Of a share of `num` items, also where none has it or all: resampling would make that certain."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    reach = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + (z / (2 * num)) ** 2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _numbers(values: Values) -> list[float]:
    return [value.figure if isinstance(value, PerItem) else value for value in values]


def _items(values: Values) -> PerItem | None:
    """The items of all seeds as one; None where a seed has none."""
    items = [value for value in values if isinstance(value, PerItem)]
    if len(items) < len(values):
        return None
    join = _mean_of_each if items[0].held_out else _pooled
    return PerItem(
        join([one.total.double() for one in items]),
        join([one.count.double() for one in items]),
        items[0].exponential,
        items[0].held_out,
    )


def _pooled(seeds: list[Float[Tensor, " _"]]) -> Float[Tensor, " N"]:
    return torch.cat(seeds)


def _mean_of_each(seeds: list[Float[Tensor, " N"]]) -> Float[Tensor, " N"]:
    return torch.stack(seeds).mean(0)


def _resampled(together: Sequence[PerItem], generator: torch.Generator) -> list[Float[Tensor, " R"]]:
    """The figures of items drawn with replacement, the same items of all."""
    num = len(together[0].total)
    found: list[list[Tensor]] = [[] for _ in together]
    rows = max(1, AT_ONCE // num)
    for start in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - start)
        chosen = torch.randint(num, (size, num), generator=generator)
        for kept, items in zip(found, together, strict=True):
            kept.append(_figures(items, chosen))
    return [torch.cat(kept) for kept in found]


def _figures(items: PerItem, chosen: Int[Tensor, "R N"]) -> Float[Tensor, " R"]:
    if (items.count == 1).all():  # as most are: half the work
        ratio = items.total[chosen].mean(1)
    else:
        count = items.count[chosen].sum(1)
        ratio = items.total[chosen].sum(1) / count.masked_fill(count == 0, 1)
    return ratio.exp() if items.exponential else ratio


def _percentiles(figures: Float[Tensor, " R"]) -> Interval:
    tail = (1 - LEVEL) / 2
    low, high = figures.quantile(torch.tensor([tail, 1 - tail], dtype=figures.dtype)).tolist()
    return low, high
