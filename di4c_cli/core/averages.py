"""Means of what is logged, from one log line to the next, over every rank."""

from collections.abc import Sequence

import torch
from torch import Tensor

from di4c_cli.core import ranks


class Averages:
    """Sums stay on the device until the next log line: no waiting for each figure of each step."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        """One more value of a figure; one that is not finite does not count."""
        value, finite = value.double(), torch.isfinite(value)
        value = torch.where(finite, value, 0.0)
        seen = name in self._sums
        self._sums[name] = self._sums[name] + value if seen else value
        self._counts[name] = self._counts[name] + finite if seen else finite.long()

    def taken(self) -> dict[str, float]:
        """The mean of each figure, all ranks together, which begins anew."""
        sums = {name: value.item() for name, value in self._sums.items()}
        counts = {name: int(count) for name, count in self._counts.items()}
        self._sums.clear()
        self._counts.clear()
        return means(ranks.gathered((sums, counts)))


def means(parts: Sequence[tuple[dict[str, float], dict[str, int]]]) -> dict[str, float]:
    """The means of figures from the sums and counts of every rank; not all ranks need have all of them.

    What none of them counted, as no step was finite, is left out.
    """
    names = dict.fromkeys(name for sums, _ in parts for name in sums)
    totals = {name: sum(counts.get(name, 0) for _, counts in parts) for name in names}
    return {
        name: sum(sums.get(name, 0.0) for sums, _ in parts) / total for name, total in totals.items() if total
    }
