"""Axes: the range of a chart, its ticks, and numbers short enough for a terminal."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_OUTLIERS = 0.02  # share of raw values at either end that may lie outside the range
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_FEW = 50  # below so many values none counts as an outlier


def figure(value: float) -> str:
    """At most seven characters for a value: 0.412, 1234, 12.3k, 3.1e-5, nan."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size == 0:
        return "0"
    if 1e-3 <= size < 999.5:
        return f"{value:.3g}"
    if size < 1e-3 or size >= 1e12:
        return _scientific(value)
    if size < 9999.5:
        return f"{value:.0f}"
    unit, suffix = next(pair for pair in _UNITS if size >= 0.9995 * pair[0])
    return f"{value / unit:.3g}{suffix}"


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def duration(seconds: float | None) -> str:
    """0:42, 12:05, 3:07:00 or 2d 4h; a dash where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours >= 24:
        return f"{hours // 24}d {hours % 24}h"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `count` pieces."""
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers within [low, high], about `count` of them."""
    if not high > low:
        return [low]
    step = nice_step(high - low, count)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten within [low, high], or 1, 2, 5 times them; none where fewer than two fit the range."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / max(count, 1)))
    decades = [10.0**exponent for exponent in range(first, last + 1, every)]
    if len(decades) >= 2:
        return decades
    between = [m * 10.0**e for e in range(first - 1, last + 1) for m in (1, 2, 5)]
    inside = [tick for tick in between if low <= tick <= high]
    return inside if 2 <= len(inside) <= count + 1 else []


def linear_labels(ticks: list[float]) -> list[str]:
    """Evenly spaced ticks as text, all in the same unit and with the same number of decimals."""
    size = max((abs(tick) for tick in ticks), default=0.0)
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else size
    unit, suffix = 1.0, ""
    if 0 < size < 1e-3:
        exponent = math.floor(math.log10(size) + 1e-9)
        unit, suffix = 10.0**exponent, f"e{exponent}"
    elif size >= 1e4:
        unit, suffix = next(pair for pair in _UNITS if size >= pair[0])
    step /= unit
    decimals = next((d for d in range(6) if abs(round(step, d) - step) <= step * 1e-3), 6)
    return ["0" if abs(tick) < size * 1e-9 else f"{tick / unit:.{decimals}f}{suffix}" for tick in ticks]


@dataclass(frozen=True)
class Range:
    """The values between the bottom and the top of a chart; in a logarithmic one both are positive."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 (bottom) to 1 (top); what lies outside sticks to the edge."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def rows(self, count: int) -> Callable[[float], int]:
        """Which of `count` rows a value lies in, from the top."""
        last, log10 = count - 1, math.log10
        low, high = (log10(self.low), log10(self.high)) if self.log else (self.low, self.high)
        scale, log = last / (high - low), self.log

        def row(value: float) -> int:
            place = round((high - (log10(value) if log else value)) * scale)
            return 0 if place < 0 else min(place, last)

        return row

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """About `count` round values with their labels."""
        if self.log and (ticks := log_ticks(self.low, self.high, count)):
            return [(tick, figure(tick)) for tick in ticks]
        ticks = linear_ticks(self.low, self.high, count)
        return list(zip(ticks, linear_labels(ticks), strict=True))


def fit(samples: Iterable[tuple[Sequence[float], Sequence[float]]], log: bool) -> Range | None:
    """The range of some curves, each given as (smoothed values, raw values): all of the smoothed ones, and
    the raw ones without their outliers.

    None when there is nothing to draw; in a logarithmic chart only positive values count.
    """
    floor = 0.0 if log else -math.inf
    lows, highs = [], []
    for smoothed, values in samples:
        raw = sorted([value for value in values if floor < value < math.inf])
        smooth = [value for value in smoothed if floor < value < math.inf]
        if raw:
            cut = int(len(raw) * _OUTLIERS) if len(raw) >= _FEW else 0
            lows.append(min([raw[cut], *smooth]))
            highs.append(max([raw[-1 - cut], *smooth]))
    if not lows:
        return None
    low, high = min(lows), max(highs)
    if log:
        return Range(low, high, True) if high > low * 1.001 else Range(low / 2, high * 2, True)
    slack = max(abs(high), abs(low)) * 1e-6
    if high - low > slack:
        return Range(low, high)
    margin = abs(high) * 0.1 or 1.0  # a constant curve lies in the middle
    return Range(low - margin, high + margin)


def time_ticks(start: float, stop: float, count: int) -> list[tuple[float, str]]:
    """About `count` round times within [start, stop] seconds, with their labels."""
    rough = (stop - start) / max(count, 1)
    step = next((length for length in _TIMES if length >= rough), None) or nice_step(stop - start, count)
    first, last = math.ceil(start / step - 1e-6), math.floor(stop / step + 1e-6)
    return [(number * step, duration(number * step)) for number in range(first, last + 1)]
