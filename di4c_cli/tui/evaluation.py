"""The evaluation of a run, from its eval/results.json, ready to be drawn."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from di4c_cli.report import LABELS, Figure, Group, aggregate, metric_names
from di4c_cli.tui.series import number


@dataclass(frozen=True)
class Evaluation:
    """What `di4c eval` measured: `names` of the metrics, the most telling first."""

    names: tuple[str, ...]
    directions: dict[str, str]
    reference: dict[str, float]
    groups: tuple[Group, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Model names, with the guidance weight where several were tried."""
        return tuple(dict.fromkeys(model_name(group, self.groups) for group in self.groups))

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(sorted({group.steps for group in self.groups}))

    def figure(self, model: str, steps: int, metric: str) -> Figure | None:
        for group in self.groups:
            if group.steps == steps and model_name(group, self.groups) == model:
                return group.metrics.get(metric)
        return None


def model_name(group: Group, among: Sequence[Group]) -> str:
    several = len({other.guidance for other in among}) > 1
    return f"{group.model} w={group.guidance:g}" if several and group.guidance is not None else group.model


def read_evaluation(path: Path) -> Evaluation | None:
    """The evaluation in a results.json; None where there is none, or something else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        rows = [_clean_row(row) for row in result["rows"]]
        directions = {str(name): str(way) for name, way in result["directions"].items()}
        reference = _clean_figures(result["reference"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    names = metric_names({"rows": rows, "directions": directions})
    ordered = [name for name in LABELS if name in names]
    ordered += [name for name in names if name not in LABELS]
    return Evaluation(tuple(ordered), directions, reference, tuple(aggregate(rows)))


def _clean_row(row: dict[str, Any]) -> dict[str, Any]:
    guidance = row.get("guidance")
    return {
        "model": str(row["model"]),
        "steps": int(row["steps"]),
        "nfe": int(row["nfe"]),
        "guidance": None if guidance is None else float(guidance),
        "metrics": _clean_figures(row["metrics"]),
        "seconds_per_sample": float(row["seconds_per_sample"]),
    }


def _clean_figures(figures: dict[str, Any]) -> dict[str, float]:
    """The finite ones: a metric may be null where it could not be computed."""
    known = {str(name): number(value) for name, value in figures.items()}
    return {name: value for name, value in known.items() if value is not None and math.isfinite(value)}
