"""What `di4c eval` leaves behind: results.json, results.md with its tables and verdict, and frontier.png."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from di4c_cli.figures import ARROWS, LETTERS, Group, aggregate, columns, metric_names
from di4c_cli.files import write_text_atomic
from di4c_cli.frontier import write_frontier
from di4c_cli.telling import DAGGER, NOT_COMPARABLE, matched_table, verdict_lines, verdict_table

DIFFERENCES = """\
Differences with 95 % intervals: bootstrap over samples, or over held-out items paired between the models
(`nll_bound`); Student's t over seeds for figures of whole sets. equal: the interval holds 0."""
MATCHED = """\
Interpolated over temperatures, log-linear in entropy, at the entropy that the teacher has at T = 1; never
extrapolated."""
ENDS = {"sample": "draws x_0", "argmax": "takes the most probable states"}
EXPLAINED = {
    "guidance": "w: guidance weight",
    "temperature": "T: temperature",
    "final": "tail: how the last call ends",
    "precision": "dtype: of the networks",
}


def write_report(result: dict[str, Any], out: Path) -> list[Path]:
    """Write results.json, results.md and frontier.png into `out`; gives their paths back.

    Args:
        result: what `di4c eval --json` prints.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "results.json", out / "results.md", out / "frontier.png"]
    write_text_atomic(paths[0], json.dumps(result, indent=1) + "\n")
    write_text_atomic(paths[1], document(result))
    write_frontier(result, paths[2])
    return paths


def document(result: dict[str, Any]) -> str:
    """The whole results.md."""
    parts = [table(result)]
    verdicts, matched = verdict_table(result), matched_table(result)
    if len(verdicts) > 1:
        lines = "\n".join(f"- {line}" for line in verdict_lines(result))
        title = "## Does the student keep up with twice the steps?"
        parts.append(f"{title}\n\n{lines}\n\n{markdown(verdicts)}\n\n{DIFFERENCES}\n")
    if len(matched) > 1:
        parts.append(f"## Perplexity at the teacher's entropy\n\n{markdown(matched)}\n\n{MATCHED}\n")
    if result.get("judges"):
        parts.append(
            "## Judges\n\n" + "\n".join(f"- {k}: {line}" for k, line in result["judges"].items()) + "\n"
        )
    return "\n".join(parts)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its heading; all but the first column stand to the right."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def table(result: dict[str, Any]) -> str:
    """The markdown table: a line for each model and step count, the floor of real data last."""
    names = metric_names(result)
    head = [name + ARROWS.get(result["directions"].get(name, ""), "") for name in names]
    groups = aggregate(result["rows"])
    parts = columns(groups)
    lines = [["model", "K", *(LETTERS[part] for part in parts), "NFE", *head, "ms/sample"]]
    for group in groups:
        figures = [str(group.metrics.get(name, "")) for name in names]
        speed = f"{1000 * group.seconds_per_sample:.3g}"
        model = f"{group.name} {DAGGER}" if group.not_comparable else group.name
        lines.append([model, str(group.steps), *group.setting.cells(parts), str(group.nfe), *figures, speed])
    if result["reference"]:
        floor = [f"{result['reference'][name]:.4g}" if name in result["reference"] else "" for name in names]
        lines.append(["*real data*", "", *[""] * len(parts), "", *floor, ""])
    return f"# {result['source']}\n\n{markdown(lines)}\n\n{_caption(result, groups)}\n"


def _caption(result: dict[str, Any], groups: list[Group]) -> str:
    seeds = max((group.seeds for group in groups), default=0)
    num = " or ".join(str(n) for n in sorted({row["num"] for row in result["rows"]}))
    known = any(figure.std for group in groups for figure in group.metrics.values())
    one = "One sampling seed, ± standard error" if known else "One sampling seed"
    spread = f"Mean ± standard deviation over {seeds} sampling seeds" if seeds > 1 else one
    return (
        f"{spread}, {num} samples each; K: sampling steps, "
        + "".join(f"{EXPLAINED[part]}, " for part in columns(groups))
        + "NFE: network calls. ↓ lower is better, ↑ higher.\n"
        "*real data*: the same figures with real data in place of samples."
        + f"\n{_drawn(groups)}" * any(group.setting.precision for group in groups)
        + f"\n{DAGGER} {NOT_COMPARABLE}." * any(group.not_comparable for group in groups)
    )


def _drawn(groups: list[Group]) -> str:
    """Precision and tail of all rows."""
    precisions = " or ".join(dict.fromkeys(str(group.setting.precision) for group in groups))
    finals = " or ".join(dict.fromkeys(ENDS.get(str(group.setting.final), "") for group in groups))
    return f"Networks: {precisions}; draws: float64. The last call {finals}."
