"""The result of `eval` as a table: teacher, student and hybrid side by side."""

import statistics
from typing import Any

from di4c_cli.cli import console

_ARROWS = {"lower": "↓", "higher": "↑"}
_PLAIN_ARROWS = {"lower": "(lower is better)", "higher": "(higher is better)"}


def print_comparison(evaluation: dict[str, Any]) -> None:
    """One line for each model and number of steps; over several seeds, mean and standard deviation."""
    rows, directions = evaluation["rows"], evaluation.get("directions", {})
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    arrows = _ARROWS if console.can_print("↓↑±") else _PLAIN_ARROWS
    headings = [f"{name} {arrows.get(directions.get(name, ''), '')}".strip() for name in metrics]
    lines = []
    for (model, steps), group in _by_model_and_steps(rows).items():
        figures = [_figure([row["metrics"].get(name) for row in group]) for name in metrics]
        lines.append([model, steps, group[0]["nfe"], *figures])
    reference = evaluation.get("reference", {})
    if any(name in reference for name in metrics):
        lines.append(["real data", "", "", *(_figure([reference.get(name)]) for name in metrics)])
    console.print_table(["model", "K", "NFE", *headings], lines, numbers=["K", "NFE", *headings])


def _by_model_and_steps(rows: list[dict[str, Any]]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Rows that differ by their seed only, ordered by steps, so that models at equal K stand together."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["steps"]):
        groups.setdefault((row["model"], row["steps"]), []).append(row)
    return groups


def _figure(values: list[float | None]) -> str:
    known = [value for value in values if isinstance(value, int | float)]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.4g}"
    plus_minus = "±" if console.can_print("±") else "+-"
    return f"{statistics.fmean(known):.4g} {plus_minus} {statistics.stdev(known):.2g}"
