"""What can be said of a student beside its teacher: better, worse, or no difference that can be told."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from di4c_cli.core.intervals import Values, estimate, of_difference
from di4c_cli.core.metrics import Direction

Says = Literal["better", "equal", "worse", "unknown"]
"""equal: the interval of the difference holds 0; unknown: there is no interval."""


@dataclass(frozen=True)
class Verdict:
    """One figure of a student less the same of its teacher."""

    difference: float
    low: float | None
    high: float | None
    """The 95 % interval of the difference."""
    says: Says


def verdict(student: Values, teacher: Values, direction: Direction) -> Verdict:
    """Both at the same seeds; `direction` is lower or higher."""
    difference = estimate(student) - estimate(teacher)
    found = of_difference(student, teacher)
    if found is None or not all(map(math.isfinite, found)):
        return Verdict(difference, None, None, "unknown")
    low, high = found
    if low <= 0 <= high:
        return Verdict(difference, low, high, "equal")
    return Verdict(difference, low, high, "better" if (high < 0) == (direction == "lower") else "worse")


def at_entropy(entropy: float, points: Sequence[tuple[float, float]]) -> float | None:
    """A perplexity at an entropy, log-linear between the two (entropy, perplexity) that enclose it.

    None where none do: nothing is extrapolated.
    """
    ordered = sorted(points)
    for (a, low), (b, high) in itertools.pairwise(ordered):
        if a <= entropy <= b:
            share = (entropy - a) / (b - a) if b > a else 0.0
            return math.exp((1 - share) * math.log(low) + share * math.log(high))
    return None
