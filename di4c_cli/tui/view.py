"""What part of the curves is looked at: shared by all charts of a screen, so that they stay aligned."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from di4c_cli.tui.series import History

_NARROWEST = 1e-6  # share of the whole beyond which nothing is enlarged any further
Axis = Literal["step", "time"]
Span = tuple[float, float]


@dataclass(frozen=True)
class View:
    """The window on the x axis and the cursor, in units of the axis (steps, or seconds of training).

    `start` and `stop` None: from the beginning, and up to whatever comes.
    """

    axis: Axis = "step"
    start: float | None = None
    stop: float | None = None
    cursor: float | None = None

    def span(self, whole: Span) -> Span:
        """First and last position shown, where the curves lie within `whole`."""
        start = whole[0] if self.start is None else self.start
        stop = whole[1] if self.stop is None else self.stop
        return (start, stop) if stop > start else (whole[0], whole[1])

    def zoom(self, factor: float, about: float | None, whole: Span, closest: float = 0.0) -> "View":
        """`factor` > 1 enlarges; the position `about` (else the cursor, else the newest) stays in place.

        A window shorter than `closest` is not enlarged any further.
        """
        start, stop = self.span(whole)
        if factor > 1 and stop - start <= closest:
            return self
        fixed = about if about is not None else self.cursor
        fixed = stop if fixed is None else min(max(fixed, start), stop)
        length = (stop - start) / factor
        start = min(max(fixed - (fixed - start) / factor, whole[0]), whole[1] - length)
        return self._within(start, start + length, whole)

    def pan(self, share: float, whole: Span) -> "View":
        """Move by a share of the window; at its end it follows the run again."""
        start, stop = self.span(whole)
        shift = share * (stop - start)
        shift = min(max(shift, whole[0] - start), whole[1] - stop)
        return self._within(start + shift, stop + shift, whole)

    def _within(self, start: float, stop: float, whole: Span) -> "View":
        length = whole[1] - whole[0]
        if stop - start >= length:
            return replace(self, start=None, stop=None)
        if stop - start < length * _NARROWEST:
            return self
        at_end = stop >= whole[1] - length * _NARROWEST
        return replace(self, start=start, stop=None if at_end else stop)

    def point(self, share: float, whole: Span) -> "View":
        """Move the cursor by a share of the window; without one it appears at the newest position."""
        start, stop = self.span(whole)
        cursor = stop if self.cursor is None else self.cursor + share * (stop - start)
        return replace(self, cursor=min(max(cursor, start), stop))


def whole_span(histories: Iterable[History], axis: Axis) -> Span:
    """First and last position over all of them."""
    positions = [at for history in histories if (at := positions_of(history, axis))]
    if not positions:
        return 0.0, 0.0
    return min(at[0] for at in positions), max(at[-1] for at in positions)


def positions_of(history: History, axis: Axis) -> array:
    return history.steps if axis == "step" else history.elapsed
