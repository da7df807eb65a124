"""The result of `eval` as a table: teacher, student and hybrid side by side."""

from typing import Any

from di4c_cli.cli import console
from di4c_cli.report import ARROWS, Figure, aggregate, metric_names

_PLAIN_ARROWS = {"lower": " (lower)", "higher": " (higher)"}


def print_comparison(evaluation: dict[str, Any]) -> None:
    """One line for each model and number of steps; over several seeds, mean and standard deviation.

    Of one seed, a figure with its standard error, where it has one.
    """
    names, reference = metric_names(evaluation), evaluation["reference"]
    pretty = console.can_print("↓↑±")
    arrows = ARROWS if pretty else _PLAIN_ARROWS
    headings = [name + arrows.get(evaluation["directions"].get(name, ""), "") for name in names]
    groups = aggregate(evaluation["rows"])
    guided = any(group.guidance is not None for group in groups)
    lines = [
        [
            group.model,
            group.steps,
            *[group.guidance] * guided,
            group.nfe,
            *(_cell(group.metrics.get(name), pretty) for name in names),
        ]
        # by steps, so that the models stand together at equal K
        for group in sorted(groups, key=lambda group: (group.steps, group.guidance or 0))
    ]
    if reference:
        floor = [console.brief(reference[name]) if name in reference else "" for name in names]
        lines.append(["real data", "", *[""] * guided, "", *floor])
    leading = ["K", *["w"] * guided, "NFE"]
    console.print_table(["model", *leading, *headings], lines, numbers=[*leading, *headings])


def _cell(figure: Figure | None, pretty: bool) -> str:
    if figure is None:
        return ""
    spread = f" {'±' if pretty else '+-'} {figure.std:.2g}" if figure.std else ""
    return console.brief(figure.mean) + spread
