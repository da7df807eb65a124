"""Rows of metrics.jsonl, cleaned of whatever they may hold, as columns of numbers."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAN = math.nan
ABSENT = math.inf
"""What a column holds where a row does not have its metric; NaN: it has, but not as a finite number."""
HUGE = 3e38
"""Beyond it a four-byte float is infinite: such values count as not finite."""
_HUGE_STEP = 1e300  # beyond it the width of a range would overflow
_NUMBERS = {float, int}
_MISSING = object()
_AXES = ("step", "time", "elapsed")


def number(value: Any) -> float | None:
    """A JSON value as a float; None for what is not a number (a JSON true is none either)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None


def _value(value: Any) -> float:
    """A JSON value as a column holds it."""
    if value is None:  # JSON's word for what is not finite
        return NAN
    known = number(value)
    if known is None:
        return ABSENT
    return known if abs(known) < HUGE else NAN


@dataclass
class Batch:
    """Some rows of metrics.jsonl in columns, their steps ascending. `elapsed` in seconds, NaN: not known."""

    steps: list[float]
    elapsed: list[float]
    columns: dict[str, Sequence[float]]


def batches(rows: Iterable[dict[str, Any]]) -> Iterator[Batch]:
    """Rows as batches; where the step goes back, a new batch begins. Rows without a step are passed over."""
    steps: list[float] = []
    kept: list[dict[str, Any]] = []
    for row in rows:
        step = number(row.get("step"))
        if step is None or not abs(step) < _HUGE_STEP:
            continue
        if steps and step == steps[-1]:  # two rows on one step: one row with what both say
            kept[-1] = kept[-1] | row
            continue
        if steps and step < steps[-1]:
            yield _batch(steps, kept)
            steps, kept = [], []
        steps.append(step)
        kept.append(row)
    if steps:
        yield _batch(steps, kept)


def _batch(steps: list[float], rows: list[dict[str, Any]]) -> Batch:
    names = dict.fromkeys(name for row in rows for name in row if name not in _AXES)
    columns = {name: _column([row.get(name, _MISSING) for row in rows]) for name in names}
    known = {name: values for name, values in columns.items() if any(v != ABSENT for v in values)}
    elapsed = [number(row.get("elapsed")) for row in rows]
    return Batch(steps, [NAN if seconds is None else seconds for seconds in elapsed], known)


def _column(values: list[Any]) -> Sequence[float]:
    if set(map(type, values)) <= _NUMBERS:
        try:
            if math.isfinite(sum(values)) and max(map(abs, values)) < HUGE:
                return values
        except OverflowError:
            pass
    return [ABSENT if value is _MISSING else _value(value) for value in values]
