"""What the rows of an evaluation say side by side: intervals, verdicts, perplexity at equal entropy."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from di4c_cli.core.intervals import Values, estimate, interval
from di4c_cli.core.metrics import Direction, PerItem, plain
from di4c_cli.core.verdict import at_entropy, verdict
from di4c_cli.figures import ENTROPY, PERPLEXITY, Setting

APART = 0.1  # nats of entropy beyond which quality is bought with diversity, or the other way round


@dataclass(frozen=True)
class Measured:
    """One row of an evaluation, with the items of its figures."""

    told: dict[str, Any]
    """The row but for its figures."""
    values: dict[str, float | PerItem]
    seconds_per_sample: float

    @cached_property
    def row(self) -> dict[str, Any]:
        """As it stands in results.json."""
        known = {name: interval([value]) for name, value in self.values.items()}
        intervals = {name: found for name, found in known.items() if found is not None}
        figures = {"metrics": plain(self.values), "intervals": intervals}
        return self.told | figures | {"seconds_per_sample": self.seconds_per_sample}


@dataclass(frozen=True)
class Side:
    """One model at one number of steps in one setting, at all seeds."""

    model: str
    steps: int
    setting: Setting
    measured: Sequence[Measured]

    def values(self, name: str) -> Values | None:
        """A figure at each seed; None where it is not known at all of them."""
        found = [one.values[name] for one in self.measured if name in one.values]
        return found if len(found) == len(self.measured) else None

    def figure(self, name: str) -> float | None:
        values = self.values(name)
        return None if values is None else estimate(values)

    @cached_property
    def entropy(self) -> float | None:
        return self.figure(ENTROPY)

    def apart(self, other: "Side") -> bool:
        """Whether entropy is known of both, and differs."""
        if self.entropy is None or other.entropy is None:
            return False
        return abs(self.entropy - other.entropy) > APART


class Sides:
    """All rows of an evaluation, by what is compared."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        grouped: dict[tuple[str, int, Setting], list[Measured]] = {}
        for one in measured:
            key = (one.told["model"], one.told["steps"], Setting.of(one.told))
            grouped.setdefault(key, []).append(one)
        self.by_key = {key: Side(*key, group) for key, group in grouped.items()}

    def teachers(self, side: Side) -> Iterator[Side]:
        """The teacher at twice the steps and at the same, where they were evaluated."""
        for steps in (2 * side.steps, side.steps):
            found = self.by_key.get(("teacher", steps, side.setting))
            if found is not None:
                yield found

    @property
    def others(self) -> list[Side]:
        """All but the teacher's."""
        return [side for side in self.by_key.values() if side.model != "teacher"]


def compared(measured: Sequence[Measured], directions: dict[str, Direction]) -> dict[str, Any]:
    """The part of an evaluation's result that comes of its rows, rows included."""
    sides = Sides(measured)
    return {
        "rows": _rows(measured, sides),
        "verdict": _verdicts(sides, directions),
        "matched_entropy": _matched(sides, directions),
    }


def _rows(measured: Sequence[Measured], sides: Sides) -> list[dict[str, Any]]:
    """Rows of another entropy than the teacher's at twice the steps (else at the same) are marked."""
    marked = {
        id(one)
        for side in sides.others
        for teacher in itertools.islice(sides.teachers(side), 1)
        if side.apart(teacher)
        for one in side.measured
    }
    return [one.row | ({"not_comparable": True} if id(one) in marked else {}) for one in measured]


def _verdicts(sides: Sides, directions: dict[str, Direction]) -> list[dict[str, Any]]:
    """Every figure that has a better and a worse, against the teacher at 2K and at K."""
    found = []
    for name, side in itertools.product(directions, sides.others):
        ours = side.values(name)
        for teacher in sides.teachers(side):
            theirs = teacher.values(name)
            if directions[name] == "report" or ours is None or theirs is None:
                continue
            # Held-out data cannot be fooled by samples that are all alike.
            of_samples = not (isinstance(ours[0], PerItem) and ours[0].held_out)
            told = asdict(verdict(ours, theirs, directions[name]))
            told["not_comparable"] = of_samples and side.apart(teacher)
            found.append({"metric": name, **_places(side, teacher), **told})
    return found


def _matched(sides: Sides, directions: dict[str, Direction]) -> list[dict[str, Any]]:
    """Perplexities over temperatures, read off at the entropy that the teacher has at T = 1."""
    found = []
    for name, side in itertools.product(directions, sides.others):
        if not name.endswith(PERPLEXITY) or side.setting.temperature != 1:
            continue
        points = [
            (other.entropy, perplexity)
            for other in sides.others
            if (other.model, other.steps, replace(other.setting, temperature=1.0))
            == (side.model, side.steps, side.setting)
            and other.entropy is not None
            and (perplexity := other.figure(name)) is not None
        ]
        for teacher in sides.teachers(side) if len(points) > 1 else []:
            if teacher.entropy is not None and (against := teacher.figure(name)) is not None:
                value = at_entropy(teacher.entropy, points)
                told = {"entropy": teacher.entropy, "value": value, "against_value": against}
                found.append({"metric": name, **_places(side, teacher), **told})
    return found


def _places(side: Side, teacher: Side) -> dict[str, Any]:
    """What is compared with what, and in which setting."""
    told = {"model": side.model, "steps": side.steps, "against": "teacher", "against_steps": teacher.steps}
    return told | {name: value for name, value in asdict(side.setting).items() if value is not None}
