"""The figures of an evaluation over its seeds, as tables and pictures tell them."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

ARROWS = {"lower": " ↓", "higher": " ↑"}
LABELS = {
    "tv": "total variation (exact)",
    "fid": "FID",
    "fd_test": "Fréchet distance to held-out data",
    "fd": "Fréchet distance to training data",
    "nll_bound": "held-out NLL bound, nats",
    "valid": "share of valid samples",
    "valid_words": "share of valid words",
    "judge_ppl": "perplexity under the judge",
    "entropy": "unigram entropy, nats",
    "kid": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "class_accuracy": "class accuracy",
    "class_entropy": "class entropy, share of maximum",
    "copies": "share of near copies",
}
"""Metrics worth a panel, the most telling first."""
ERROR = "_se"
"""The end of the name of a figure that is the standard error of another."""
ENTROPY, PERPLEXITY = "entropy", "judge_ppl"
"""The names of the unigram entropy, and of the end of every perplexity's."""
LETTERS = {"guidance": "w", "temperature": "T", "final": "tail", "precision": "dtype"}
"""The heading of each part of a `Setting`."""


@dataclass(frozen=True)
class Setting:
    """How samples were asked for: only what was asked for in one way compares."""

    guidance: float | None = None
    """None for models that are told no classes."""
    temperature: float = 1.0
    final: str | None = None
    """Whether the last call draws or takes the most probable states."""
    precision: str | None = None
    """What the networks ran in."""

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """That of a row of an evaluation; older ones tell less."""
        return cls(**{part.name: row[part.name] for part in fields(cls) if part.name in row})

    def cells(self, names: Iterable[str]) -> list[str]:
        """Some of its parts, to be read."""
        values = [getattr(self, name) for name in names]
        return [
            value if isinstance(value, str) else "" if value is None else f"{value:g}" for value in values
        ]

    def label(self, names: Sequence[str]) -> str:
        """Some of its parts with their letters: `w = 2, T = 0.9`."""
        parts = zip(names, self.cells(names), strict=True)
        return ", ".join(f"{LETTERS[name]} = {cell}" for name, cell in parts if cell)


@dataclass(frozen=True)
class Figure:
    """A figure over seeds: mean and sample standard deviation.

    Of one seed: the standard error that came with the figure, 0 if none did.
    """

    mean: float
    std: float

    @classmethod
    def of(cls, values: Sequence[float], error: float = 0.0) -> "Figure":
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else error)

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.std:.2g}" if self.std else f"{self.mean:.4g}"


@dataclass(frozen=True)
class Group:
    """One model at one number of steps, in one setting, over its seeds."""

    model: str
    steps: int
    nfe: int
    setting: Setting
    seeds: int
    metrics: dict[str, Figure]
    seconds_per_sample: float
    not_comparable: bool
    """Whether its entropy is another than the teacher's."""
    by_teacher: int = 0
    """Calls that a student hands over."""

    @property
    def name(self) -> str:
        """The model, and how many of its calls are another's."""
        return f"{self.model}, {self.by_teacher} by teacher" if self.by_teacher else self.model


def aggregate(rows: Iterable[dict[str, Any]]) -> list[Group]:
    """Rows of an evaluation grouped by (model, steps, setting), in order of appearance."""
    grouped: dict[tuple[str, int, Setting], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["model"], row["steps"], Setting.of(row)), []).append(row)
    return [_group(*key, group) for key, group in grouped.items()]


def _group(model: str, steps: int, setting: Setting, rows: list[dict[str, Any]]) -> Group:
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    values = {name: [row["metrics"][name] for row in rows if name in row["metrics"]] for name in names}
    return Group(
        model=model,
        steps=steps,
        nfe=rows[0]["nfe"],
        setting=setting,
        seeds=len(rows),
        metrics={name: Figure.of(v, *values.get(name + ERROR, [])[:1]) for name, v in values.items()},
        seconds_per_sample=statistics.fmean(row["seconds_per_sample"] for row in rows),
        not_comparable=any(row.get("not_comparable", False) for row in rows),
        by_teacher=rows[0].get("by_teacher", 0),
    )


def varied(settings: Iterable[Setting]) -> list[str]:
    """The parts of settings that take several values."""
    found = list(settings)
    return [name for name in LETTERS if len({getattr(setting, name) for setting in found}) > 1]


def columns(groups: Iterable[Group]) -> list[str]:
    """The parts of settings that a table has columns for: what varies, and guidance wherever it is known."""
    settings = [group.setting for group in groups]
    guided = ["guidance"] if any(setting.guidance is not None for setting in settings) else []
    return guided + [name for name in varied(settings) if name not in guided]


def metric_names(result: dict[str, Any]) -> list[str]:
    """Every metric of an evaluation, in the order of its directions, then of appearance.

    Standard errors are told with the figures that they belong to.
    """
    found = dict.fromkeys(name for row in result["rows"] for name in row["metrics"])
    ordered = [n for n in result["directions"] if n in found]
    ordered += [n for n in found if n not in result["directions"]]
    return [n for n in ordered if not (n.endswith(ERROR) and n.removesuffix(ERROR) in found)]
