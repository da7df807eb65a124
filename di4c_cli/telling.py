"""The verdict of an evaluation in words, and as a table."""

from collections.abc import Iterable, Sequence
from typing import Any

from di4c_cli.figures import LETTERS, Setting, varied

FIRST = {
    "better": "beats the teacher at twice the steps",
    "equal": "cannot be told from the teacher at twice the steps",
    "worse": "is worse than the teacher at twice the steps",
}
LATER = {"equal": "no difference can be told", "worse": "it is worse"}
DAGGER = "†"
NOT_COMPARABLE = "entropy more than 0.1 nats from the teacher's: quality figures are not comparable"


def verdict_lines(result: dict[str, Any], dagger: str = DAGGER) -> list[str]:
    """A line for each metric and model: at which K it keeps up with the teacher at 2K."""
    doubled = [entry for entry in _plain(result) if entry["against_steps"] == 2 * entry["steps"]]
    parts = varied(Setting.of(entry) for entry in doubled)
    lines = [
        f"{metric}: {model}{', ' * bool(label)}{label} {clauses}"
        for (metric, model, label), entries in _grouped(doubled, parts).items()
        if (clauses := _clauses(entries, dagger))
    ]
    silent = dict.fromkeys(entry["metric"] for entry in doubled if entry["says"] == "unknown")
    if silent:
        lines.append(f"{', '.join(silent)}: one seed gives no interval; --seeds 0,1,2 does")
    return lines


def _grouped(
    entries: Iterable[dict[str, Any]], parts: Sequence[str]
) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """By metric, model and setting."""
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        key = (entry["metric"], entry["model"], Setting.of(entry).label(parts))
        grouped.setdefault(key, []).append(entry)
    return grouped


def _plain(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The verdicts at T = 1, where that is among the temperatures; none in results of older programs."""
    entries = result.get("verdict", [])
    return [entry for entry in entries if entry["temperature"] == 1] or entries


def _clauses(entries: Sequence[dict[str, Any]], dagger: str) -> str:
    clauses: list[str] = []
    for says, first in FIRST.items():
        steps = [f"{e['steps']}{dagger * e['not_comparable']}" for e in entries if e["says"] == says]
        if steps:
            clauses.append(f"at {', '.join(steps)} {LATER[says] if clauses else first}")
    return "; ".join(clauses)


def verdict_table(result: dict[str, Any]) -> list[list[str]]:
    """Heading and lines: student less teacher, at twice the steps and at the same."""
    entries = _plain(result)
    parts = varied(Setting.of(entry) for entry in entries)
    against = {"teacher at 2K": 2, "teacher at K": 1}
    lines = [
        ["metric", "model", "K", *(LETTERS[part] for part in parts), *(f"less {name}" for name in against)]
    ]
    rows: dict[tuple[str, ...], dict[int, str]] = {}
    for entry in entries:
        place = (entry["metric"], entry["model"], str(entry["steps"]), *Setting.of(entry).cells(parts))
        rows.setdefault(place, {})[entry["against_steps"] // entry["steps"]] = _difference(entry)
    return lines + [
        [*place, *(cells.get(factor, "") for factor in against.values())] for place, cells in rows.items()
    ]


def _difference(entry: dict[str, Any]) -> str:
    if entry["says"] == "unknown":
        return f"{entry['difference']:+.3g}"
    mark = DAGGER * entry["not_comparable"]
    return f"{entry['difference']:+.3g} [{entry['low']:+.3g}, {entry['high']:+.3g}] {entry['says']}{mark}"


def matched_table(result: dict[str, Any]) -> list[list[str]]:
    """Heading and lines: perplexities at the entropy of the teacher."""
    entries = result.get("matched_entropy", [])
    parts = varied(Setting.of(entry) for entry in entries)
    letters = [LETTERS[part] for part in parts]
    lines = [["metric", "model", "K", "teacher's K", *letters, "entropy", "perplexity there", "teacher's"]]
    for entry in entries:
        value = "out of range" if entry["value"] is None else f"{entry['value']:.4g}"
        place = [entry["metric"], entry["model"], str(entry["steps"]), str(entry["against_steps"])]
        place += Setting.of(entry).cells(parts)
        lines.append([*place, f"{entry['entropy']:.4g}", value, f"{entry['against_value']:.4g}"])
    return lines
