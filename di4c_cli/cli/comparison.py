"""The result of `eval` as a table: teacher, student and hybrid side by side."""

from typing import Any

from di4c_cli.cli import console
from di4c_cli.figures import ARROWS, LETTERS, Figure, aggregate, columns, metric_names
from di4c_cli.telling import DAGGER, NOT_COMPARABLE, verdict_lines

_PLAIN_ARROWS = {"lower": " (lower)", "higher": " (higher)"}


def print_comparison(evaluation: dict[str, Any]) -> None:
    """One line for each model and number of steps; over several seeds, mean and standard deviation.

    Of one seed, a figure with its standard error, where it has one. Below, the verdict in words.
    """
    names, reference = metric_names(evaluation), evaluation["reference"]
    pretty = console.can_print("↓↑±")
    arrows = ARROWS if pretty else _PLAIN_ARROWS
    headings = [name + arrows.get(evaluation["directions"].get(name, ""), "") for name in names]
    groups = aggregate(evaluation["rows"])
    parts, dagger = columns(groups), DAGGER if console.can_print(DAGGER) else "(!)"
    lines = [
        [
            f"{group.name} {dagger}" if group.not_comparable else group.name,
            group.steps,
            *group.setting.cells(parts),
            group.nfe,
            *(_cell(group.metrics.get(name), pretty) for name in names),
        ]
        # by steps, so that the models stand together at equal K
        for group in sorted(groups, key=lambda group: (group.steps, group.setting.guidance or 0))
    ]
    if reference:
        floor = [console.brief(reference[name]) if name in reference else "" for name in names]
        lines.append(["real data", "", *[""] * len(parts), "", *floor])
    leading = ["K", *(LETTERS[part] for part in parts), "NFE"]
    console.print_table(["model", *leading, *headings], lines, numbers=[*leading, *headings])
    if any(group.not_comparable for group in groups):
        print(f"{dagger} {NOT_COMPARABLE}")
    for line in verdict_lines(evaluation, dagger):
        print(line)


def _cell(figure: Figure | None, pretty: bool) -> str:
    if figure is None:
        return ""
    spread = f" {'±' if pretty else '+-'} {figure.std:.2g}" if figure.std else ""
    return console.brief(figure.mean) + spread
