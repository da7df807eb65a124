"""A matrix as a table: a line for each cell, teacher beside student at every number of steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from di4c_cli.figures import ARROWS, LABELS, Figure, aggregate

SEED = "train.seed"
"""An axis of it is not told cell by cell: what is told is mean and standard deviation."""
MODELS = ("teacher", "student")
TRAINING = "training s"
"""The last column: what it took, or why there is nothing."""


@dataclass(frozen=True)
class Line:
    """Cells that differ in their training seed alone."""

    settings: tuple[str, ...]
    figures: dict[tuple[str, int], Figure]
    """By model and number of steps; none, if the cell could not be made."""
    seconds: dict[str, float]
    reason: str


def lines(result: dict[str, Any]) -> list[Line]:
    """The lines of the table, in the order of the grid."""
    shown = shown_axes(result)
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for cell in result["cells"]:
        grouped.setdefault(tuple(cell["settings"][i] for i in shown), []).append(cell)
    return [_line(settings, cells, result["figure"]) for settings, cells in grouped.items()]


def shown_axes(result: dict[str, Any]) -> list[int]:
    """The axes that have columns."""
    return [i for i, name in enumerate(result["axes"]) if name != SEED]


def headings(result: dict[str, Any]) -> list[str]:
    """Names of the axes that have columns, as short as tells them apart."""
    keys = [result["axes"][i] for i in shown_axes(result)]
    short = [key.rpartition(".")[2] for key in keys]
    return [last if short.count(last) == 1 else key for key, last in zip(keys, short, strict=True)]


def _line(settings: tuple[str, ...], cells: list[dict[str, Any]], figure: str) -> Line:
    whole = [cell for cell in cells if "rows" in cell]
    values: dict[tuple[str, int], list[float]] = {}
    for group in (group for cell in whole for group in aggregate(cell["rows"])):
        if figure in group.metrics:  # a mean over sampling seeds, of one training seed
            values.setdefault((group.model, group.steps), []).append(group.metrics[figure].mean)
    return Line(
        settings,
        {key: Figure.of(found) for key, found in values.items()},
        {role: _mean(cell["seconds"].get(role) for cell in whole) for role in MODELS},
        next((cell["reason"] for cell in cells if "reason" in cell), ""),
    )


def _mean(values: Iterable[float | None]) -> float:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else 0.0


def table(result: dict[str, Any]) -> list[list[str]]:
    """Heading and lines."""
    found = lines(result)
    steps = sorted({steps for line in found for _, steps in line.figures})
    rows = [[*headings(result), *(f"K = {k}" for k in steps), TRAINING]]
    for line in found:
        if not line.figures:
            rows.append([*line.settings, *[""] * len(steps), line.reason])
            continue
        pairs = [" / ".join(str(line.figures.get((model, k), "-")) for model in MODELS) for k in steps]
        took = " + ".join(f"{line.seconds[role]:.0f}" for role in MODELS if line.seconds[role])
        rows.append([*line.settings, *pairs, took + (f"; {line.reason}" if line.reason else "")])
    return rows


def title(result: dict[str, Any]) -> str:
    """What the cells hold."""
    figure = result["figure"]
    whole = next(cell for cell in result["cells"] if "rows" in cell)
    return LABELS.get(figure, figure) + ARROWS.get(whole["directions"].get(figure, ""), "")


def document(result: dict[str, Any]) -> str:
    """The whole matrix.md."""
    head, *body = table(result)
    rule = ["---"] * len(shown_axes(result)) + ["---:"] * (len(head) - len(shown_axes(result)))
    text = "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])
    seeds = " ± standard deviation over training seeds" * (SEED in result["axes"])
    caption = f"teacher / student{seeds}; training: both in turn."
    return f"# {result['recipe']}: {title(result)}\n\n{text}\n\n{caption}\n"
