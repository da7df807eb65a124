"""Recipe values in which two runs differ, or a run and what it is resumed with (standard library only)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from di4c_cli.errors import UsageError

FREE = re.compile(
    r"title|(teacher\.)?train\.(steps|log_every|save_every|keep|max_skipped|warn_after)"
    r"|(preview|sample|eval|metrics|sampler|guidance)(\..*)?"
)
"""What does not change a step that is still to come: lengths, cadences, and what is drawn and judged beside.
More steps stretch the schedules; they are what a finished run is resumed for, and are told."""

Difference = tuple[str, Any, Any]


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    """Keys of two "values" tables (of resolved.json) whose values differ, with both values."""
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, {}).get("value"), after.get(key, {}).get("value")
        if old != new:
            yield key, old, new


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """The differences that somebody asked for: a value that is new in this program's defaults is none."""
    return [
        difference
        for difference in differences(before, after)
        if difference[0] in before or after[difference[0]].get("origin") != "default"
    ]


def of_file(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """How a recipe file differs from what a run had of it: where the run had overrides, nothing is known."""
    overridden = {key for key, entry in before.items() if entry.get("origin") == "override"}
    lists = {_list_of(key) for key in overridden} - {""}
    return [
        difference
        for difference in changes(before, after)
        if difference[0] not in overridden
        and (difference[0] in before or _list_of(difference[0]) not in lists)
    ]


def _list_of(key: str) -> str:
    """The list that a dotted key goes through; "" for none."""
    match = re.match(r"(.*?)\.\d+(\.|$)", key)
    return match[1] if match else ""


def told(difference: Difference) -> str:
    """One difference as a line."""
    key, old, new = difference
    return f"{key}: was {json.dumps(old)}, is now {json.dumps(new)}"


def refuse(run: Path, found: list[Difference]) -> None:
    """A run goes on as it was begun.

    Raises:
        UsageError: a line for each value that changes what is still to be trained.
    """
    drift = [f"{run}: {told(difference)}" for difference in found if not FREE.fullmatch(difference[0])]
    if drift:
        hint = "leave RECIPE and overrides out to go on as before, or add --allow-drift"
        raise UsageError("\n".join(drift), hint)
