"""Curves: the columns of a run's history, smoothed, and cut into screen columns.

Order matters: the exponential average runs over the full series, and only then are both curves cut into
buckets, so a curve does not change its shape with the width of the terminal. A million rows have to be drawn
in milliseconds: columns are arrays of four-byte floats, and know minimum and maximum of every block.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

from di4c_cli.tui.rows import ABSENT, NAN, Batch

_BLOCK = 64
_STRETCH = 4096  # values that are averaged in one go
_SATURATED = 1 - 1e-9  # total weight from which the average needs no debiasing


class Bucket(NamedTuple):
    """The values of a curve that fall into one screen column."""

    low: float
    high: float
    first: float
    last: float
    gap_before: bool  # a NaN stands between the bucket before and this one: no line comes in from the left


class Column:
    """Values, one for each row of the history, and the extremes of each whole block of them."""

    def __init__(self, num_absent: int = 0) -> None:
        self.values = array("f")
        self._lows, self._highs = array("f"), array("f")
        self._positive: Column | None = None
        self.extend(array("f", [ABSENT]) * num_absent)

    def __len__(self) -> int:
        return len(self.values)

    def extend(self, values: Iterable[float]) -> None:
        self.values.extend(values)
        for start in range(len(self._lows) * _BLOCK, len(self.values) - _BLOCK + 1, _BLOCK):
            block = self.values[start : start + _BLOCK]
            low, high = _extremes(block)
            self._lows.append(low)
            self._highs.append(high)

    def cut(self, length: int) -> None:
        """Forget what lies behind the first `length` values."""
        del self.values[length:]
        del self._lows[length // _BLOCK :], self._highs[length // _BLOCK :]
        self._positive = None

    def positive(self) -> "Column":
        """The values as a logarithmic axis sees them: what is not above 0 becomes a gap.

        It is kept, and grows with the column: to make it anew for every drawing would cost a second.
        """
        if self.extremes(0, len(self))[0] > 0:
            return self
        if self._positive is None:
            self._positive = Column()
        self._positive.extend([NAN if value <= 0 else value for value in self.values[len(self._positive) :]])
        return self._positive

    def extremes(self, begin: int, end: int) -> tuple[float, float]:
        """Smallest and largest finite value of rows [begin, end); (inf, -inf) if there is none."""
        first, last = -(-begin // _BLOCK), end // _BLOCK
        if first >= last:
            return _extremes(self.values[begin:end])
        pieces = [
            _extremes(self.values[begin : first * _BLOCK]),
            (min(self._lows[first:last]), max(self._highs[first:last])),
            _extremes(self.values[last * _BLOCK : end]),
        ]
        return min(low for low, _ in pieces), max(high for _, high in pieces)

    def present(self, begin: int, end: int, step: int = 1) -> Iterator[float]:
        """The values that are there, NaN included; from the end with `step` -1."""
        rows = range(begin, end) if step > 0 else range(end - 1, begin - 1, -1)
        return (value for row in rows if (value := self.values[row]) != ABSENT)

    def last(self, end: int | None = None) -> float:
        """The newest value (of the first `end` rows), NaN included: a diverged run has to look diverged."""
        return next(self.present(0, len(self.values) if end is None else end, -1), NAN)


def _extremes(values: Sequence[float]) -> tuple[float, float]:
    if values and math.isfinite(sum(values)):  # as nearly always: all of them are
        return min(values), max(values)
    finite = [value for value in values if -ABSENT < value < ABSENT]
    return (min(finite), max(finite)) if finite else (ABSENT, -ABSENT)


class Curve:
    """One metric over the rows of its history: raw values, and their debiased exponential average.

    `weight`: of what was before, 0 (no smoothing) to 1 (flat).
    """

    def __init__(self, weight: float = 0.0, num_absent: int = 0) -> None:
        self.raw, self._smooth = Column(num_absent), Column(num_absent)
        self.weight = weight
        self._sum = self._mass = 0.0  # weighted sum of the finite values so far, and the sum of those weights

    @property
    def smooth(self) -> Column:
        """Averaged up to the newest value: a curve that nobody looks at costs nothing."""
        if self.weight == 0:
            return self.raw
        for start in range(len(self._smooth), len(self.raw), _STRETCH):
            self._average(self.raw.values[start : start + _STRETCH])
        return self._smooth

    def extend(self, values: Sequence[float]) -> None:
        self.raw.extend(values)

    def _average(self, values: Sequence[float]) -> None:
        if self._mass > _SATURATED and math.isfinite(
            sum(values)
        ):  # in C: half a million a second is too slow
            keep, new = self.weight, 1 - self.weight
            averaged = array(
                "f", accumulate(values, lambda old, value: keep * old + new * value, initial=self._sum)
            )
            self._sum = averaged[-1]
            self._smooth.extend(averaged[1:])
        else:
            self._smooth.extend([self._debiased(value) for value in values])

    def _debiased(self, value: float) -> float:
        """The average after one more value: divided by the sum of its weights."""
        if not -ABSENT < value < ABSENT:
            return value
        self._sum = self.weight * self._sum + (1 - self.weight) * value
        self._mass = self.weight * self._mass + (1 - self.weight)
        return self._sum / self._mass

    def cut(self, length: int) -> None:
        self.raw.cut(length)
        self.smoothen(self.weight)

    def smoothen(self, weight: float) -> None:
        """Average anew."""
        self.weight, self._sum, self._mass = weight, 0.0, 0.0
        self._smooth = Column()


@dataclass
class History:
    """All curves of a run by the name of the metric, in order of first appearance, over common rows."""

    weight: float = 0.0
    steps: array = field(default_factory=lambda: array("d"))
    elapsed: array = field(default_factory=lambda: array("d"))
    """Seconds of training at each row, never falling."""
    curves: dict[str, Curve] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """The rows tell when they were written."""
        return bool(self.elapsed) and self.elapsed[-1] > 0

    @property
    def last_step(self) -> float:
        return self.steps[-1] if self.steps else -math.inf

    def extend_all(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self.extend(batch)

    def extend(self, batch: Batch) -> None:
        """Take in a batch; one that begins at or before the last step starts a newer branch there."""
        if batch.steps[0] <= self.last_step:
            self._branch(batch)
        before, added = len(self.steps), len(batch.steps)
        self.steps.extend(batch.steps)
        latest = self.elapsed[-1] if self.elapsed else 0.0
        for seconds in batch.elapsed:
            latest = seconds if seconds > latest else latest
            self.elapsed.append(latest)
        for name in batch.columns:
            if name not in self.curves:
                self.curves[name] = Curve(self.weight, before)
        nothing = array("f", [ABSENT]) * added
        for name, curve in self.curves.items():
            curve.extend(batch.columns.get(name, nothing))

    def _branch(self, batch: Batch) -> None:
        """Forget everything from the batch's first step on; what a row on that very step has said stays."""
        row = bisect_left(self.steps, batch.steps[0])
        if row == len(self.steps) - 1 and self.steps[row] == batch.steps[0]:
            for name, curve in self.curves.items():
                said = curve.raw.values[row]
                now = batch.columns.get(name, [ABSENT] * len(batch.steps))
                if said != ABSENT and now[0] == ABSENT:
                    batch.columns[name] = [said, *now[1:]]
        del self.steps[row:], self.elapsed[row:]
        for curve in self.curves.values():
            curve.cut(row)

    def clear(self) -> None:
        self.curves.clear()
        del self.steps[:], self.elapsed[:]

    def smoothen(self, weight: float) -> None:
        self.weight = weight
        for curve in self.curves.values():
            curve.smoothen(weight)


def bucket(
    positions: Sequence[float], column: Column, start: float, stop: float, columns: int
) -> list[Bucket | None]:
    """Minimum and maximum per screen column for positions in [start, stop] spread over `columns` >= 2.

    A column without values is None; NaNs that fill a column mark the next bucket with `gap_before`.
    """
    width = (stop - start) / (columns - 1) or 1.0
    edges = [bisect_left(positions, start + (number - 0.5) * width) for number in range(columns + 1)]
    buckets: list[Bucket | None] = []
    gap, values = False, column.values
    for begin, end in pairwise(edges):
        low, high = column.extremes(begin, end) if begin < end else (ABSENT, -ABSENT)
        if low == ABSENT:
            gap = gap or any(map(math.isnan, values[begin:end]))
            buckets.append(None)
            continue
        first, last = values[begin], values[end - 1]
        if math.isfinite(first) and math.isfinite(last):
            buckets.append(Bucket(low, high, first, last, gap))
            gap = False
            continue
        finite = (value for value in column.present(begin, end) if value == value)
        backwards = (value for value in column.present(begin, end, -1) if value == value)
        gap = gap or math.isnan(next(column.present(begin, end)))
        buckets.append(Bucket(low, high, next(finite), next(backwards), gap))
        gap = math.isnan(next(column.present(begin, end, -1)))
    return buckets
