"""The evaluation of a run, from its eval/results.json, ready to be drawn."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from di4c_cli.figures import LABELS, LETTERS, Figure, Group, aggregate, metric_names, varied
from di4c_cli.tui.rows import HUGE, number


@dataclass(frozen=True)
class Evaluation:
    """What `di4c eval` measured: `names` of the metrics, the most telling first."""

    names: tuple[str, ...]
    directions: dict[str, str]
    reference: dict[str, float]
    groups: tuple[Group, ...]

    @cached_property
    def by_name(self) -> dict[str, list[Group]]:
        """The groups of every model, by its name with what varies in its setting, as a guidance weight."""
        parts = varied(group.setting for group in self.groups)
        named: dict[str, list[Group]] = {}
        for group in self.groups:
            cells = zip(parts, group.setting.cells(parts), strict=True)
            name = [group.model, *(f"{LETTERS[part]}={cell}" for part, cell in cells if cell)]
            named.setdefault(" ".join(name), []).append(group)
        return named

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(sorted({group.steps for group in self.groups}))

    def kind(self, model: str) -> str:
        """Teacher, student or hybrid, without its setting."""
        return self.by_name[model][0].model

    def figure(self, model: str, steps: int, metric: str) -> Figure | None:
        groups = self.by_name.get(model, ())
        return next((group.metrics.get(metric) for group in groups if group.steps == steps), None)


def read_evaluation(path: Path) -> Evaluation | None:
    """The evaluation in a results.json; None where there is none, or something else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        rows = [_clean_row(row) for row in result["rows"]]
        directions = {str(name): str(way) for name, way in result["directions"].items()}
        reference = _clean_figures(result["reference"])
        groups = tuple(aggregate(rows))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    names = metric_names({"rows": rows, "directions": directions})
    ordered = [name for name in LABELS if name in names]
    ordered += [name for name in names if name not in LABELS]
    return Evaluation(tuple(ordered), directions, reference, groups)


def _clean_row(row: dict[str, Any]) -> dict[str, Any]:
    guidance = row.get("guidance")
    return {
        "model": str(row["model"]),
        "steps": int(row["steps"]),
        "nfe": int(row["nfe"]),
        "guidance": None if guidance is None else float(guidance),
        "temperature": float(row.get("temperature", 1.0)),
        "final": str(row.get("final", "")),
        "precision": str(row.get("precision", "")),
        "metrics": _clean_figures(row["metrics"]),
        "seconds_per_sample": float(row["seconds_per_sample"]),
    }


def _clean_figures(figures: dict[str, Any]) -> dict[str, float]:
    """Those that can be drawn: a metric may be null where it could not be computed."""
    known = {str(name): number(value) for name, value in figures.items()}
    return {name: value for name, value in known.items() if value is not None and abs(value) < HUGE}
