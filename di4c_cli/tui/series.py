"""Curves of a run: the newest branch of its history, smoothed, and cut into screen columns.

Pure functions and plain lists. Order matters: the exponential average runs over the full series, and only
then are both curves cut into buckets, so a curve does not change its shape with the width of the terminal.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

NAN = math.nan
_HUGE = 1e300  # beyond it (and below its inverse) the width of a range would overflow


def number(value: Any) -> float | None:
    """A JSON value as a float; None for what is not a number (a JSON true is none either)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None


@dataclass
class Curve:
    """One metric over the steps at which it was logged; NaN stands where it was not finite."""

    weight: float = 0.0
    steps: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    smooth: list[float] = field(default_factory=list)
    _sum: float = 0.0  # weighted sum of the finite values so far, and the sum of those weights
    _mass: float = 0.0

    def put(self, step: float, value: float) -> None:
        """Append a value; one at or before the last step starts a newer branch there."""
        if self.steps and step <= self.steps[-1]:
            self.cut(step)
        value = value if abs(value) < _HUGE else NAN
        value = 0.0 if abs(value) < 1 / _HUGE else value
        self.steps.append(step)
        self.raw.append(value)
        self.smooth.append(self._average(value))

    def _average(self, value: float) -> float:
        """The debiased exponential average: divided by the sum of its weights."""
        if math.isnan(value):
            return NAN
        self._sum = self.weight * self._sum + (1 - self.weight) * value
        self._mass = self.weight * self._mass + (1 - self.weight)
        return self._sum / self._mass

    def cut(self, step: float) -> None:
        """Forget everything from `step` on."""
        keep = bisect_left(self.steps, step)
        if keep < len(self.steps):
            del self.steps[keep:], self.raw[keep:]
            self.smoothen(self.weight)

    def smoothen(self, weight: float) -> None:
        """Average anew, with `weight` (0: none, towards 1: flat) on what was before."""
        self.weight, self._sum, self._mass = weight, 0.0, 0.0
        self.smooth = [self._average(value) for value in self.raw]


@dataclass
class History:
    """All curves of a run by the name of the metric, in order of first appearance."""

    weight: float = 0.0
    curves: dict[str, Curve] = field(default_factory=dict)
    last_step: float = -math.inf

    def extend(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take in rows of metrics.jsonl. Rows without a step are passed over, null is a gap in its curve."""
        for row in rows:
            step = number(row.get("step"))
            if step is None or not abs(step) < _HUGE:
                continue
            if step < self.last_step:
                for curve in self.curves.values():
                    curve.cut(step)
            self.last_step = step
            for name, value in row.items():
                value = NAN if value is None else number(value)
                if value is not None and name != "step":
                    self.curves.setdefault(name, Curve(self.weight)).put(step, value)

    def clear(self) -> None:
        self.curves.clear()
        self.last_step = -math.inf

    def smoothen(self, weight: float) -> None:
        self.weight = weight
        for curve in self.curves.values():
            curve.smoothen(weight)


@dataclass(frozen=True, slots=True)
class Bucket:
    """The values of a curve that fall into one screen column."""

    low: float
    high: float
    first: float
    last: float
    gap_before: bool  # a NaN stands between the bucket before and this one: no line comes in from the left


def bucket(
    steps: list[float], values: list[float], start: float, stop: float, columns: int
) -> list[Bucket | None]:
    """Minimum and maximum per column for steps in [start, stop] spread over `columns` >= 2.

    A column without values is None; NaNs that fill a column mark the next bucket with `gap_before`.
    """
    width = (stop - start) / (columns - 1) or 1.0
    edges = [bisect_left(steps, start + (column - 0.5) * width) for column in range(columns + 1)]
    buckets: list[Bucket | None] = []
    gap = False
    for begin, end in pairwise(edges):
        chunk = values[begin:end]
        finite = [value for value in chunk if value == value]
        if not finite:
            gap = gap or bool(chunk)
            buckets.append(None)
            continue
        gap = gap or math.isnan(chunk[0])
        buckets.append(Bucket(min(finite), max(finite), finite[0], finite[-1], gap))
        gap = math.isnan(chunk[-1])
    return buckets


def latest(curve: Curve) -> float:
    """The last raw value, NaN included (a diverged run has to look diverged)."""
    return curve.raw[-1] if curve.raw else NAN
