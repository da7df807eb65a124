"""What pydantic finds wrong with a recipe, as lines a person can act on."""

import difflib
import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from di4c_cli.recipe_file._lines import Key, dotted
from di4c_cli.recipe_file._overrides import Override
from di4c_cli.recipe_file._walk import child, contains, fields_at

Detail = dict[str, Any]
"""One entry of `ValidationError.errors()`."""


@dataclass(frozen=True)
class Source:
    """What was validated, and where it came from."""

    model: type[BaseModel]
    values: dict[str, Any]
    """Plain data, overrides merged in."""
    file: str
    lines: dict[Key, int]
    """Empty where the file is not one that people edit."""
    overrides: list[Override]

    def line(self, key: Key) -> int:
        """The line of a key, or of the nearest table around it."""
        while key not in self.lines and key:
            key = key[:-1]
        return self.lines.get(key, 1)

    def place(self, key: Key) -> str:
        return f"{self.file}:{self.line(key)}" if self.lines else self.file

    def culprit(self, key: Key) -> int | None:
        """The number of the override that made the value at `key`, or made the place exist."""
        for number, override in reversed(list(enumerate(self.overrides))):
            depth = len(override.key)
            if key[:depth] == override.key and contains(override.value, key[depth:]):
                return number
            if key and override.key[: len(key)] == key and len(key) < depth and key not in self.lines:
                return number
        return None


def problem_lines(error: ValidationError, source: Source) -> list[str]:
    """One line for each wrong key: `FILE:LINE: dotted.key: what is wrong`, in the order of the file.

    What an override is to blame for reads `override a.b=1: what is wrong` and comes last.
    """
    found: dict[Key, list[Detail]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_key(detail, source.values), []).append(detail)
    told: list[tuple[tuple[bool, int], str]] = []
    for key, details in found.items():
        deeper = any(len(other) > len(key) and other[: len(key)] == key for other in found)
        if deeper and all(detail["type"].endswith("_type") for detail in details):
            continue  # of a union's branches, the one that got further tells what is wrong
        culprit = source.culprit(key)
        what = _what(details, key, source, whole_key=culprit is not None)
        if culprit is None:
            label = f"{source.place(key)}: {dotted(key)}" if key else source.file
            told.append(((False, source.line(key)), f"{label}: {what}"))
        else:
            override = source.overrides[culprit]
            inner = f"{dotted(key)}: " if len(key) > len(override.key) else ""
            told.append(((True, culprit), f"override {override.text}: {inner}{what}"))
    return [line for _, line in sorted(told)]


def _key(detail: Detail, values: Any) -> Key:
    """The recipe's key behind a pydantic location, which also names the branches of unions."""
    key: Key = ()
    location = detail["loc"]
    for number, part in enumerate(location):
        absent = detail["type"] == "missing" and number == len(location) - 1
        if absent or contains(values, (part,)):
            key, values = (*key, part), child(values, part)
    return key


def _what(details: list[Detail], key: Key, source: Source, *, whole_key: bool) -> str:
    messages = [_message(detail, key, source, whole_key=whole_key) for detail in details]
    return ", or ".join(dict.fromkeys(messages))  # the branches of a union each say what they want


def _message(detail: Detail, key: Key, source: Source, *, whole_key: bool) -> str:
    kind, text = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        return _unknown_key(key, source, whole_key=whole_key)
    if kind == "missing":
        return "is missing"
    if kind in ("value_error", "assertion_error"):
        return text.partition(", ")[2]
    if kind in ("model_type", "dict_type"):
        return f"should be a table, not {_shown(detail['input'])}"
    if text.startswith("Input should "):
        text = text.partition(", unable to parse")[0]
        guess = _nearest(detail["input"], re.findall(r"'([^']*)'", text)) if kind == "literal_error" else ""
        return f"{text[len('Input ') :]}, not {_shown(detail['input'])}{guess}"
    return text


def _unknown_key(key: Key, source: Source, *, whole_key: bool) -> str:
    *table, last = key
    known = list(fields_at(source.model, source.values, tuple(table)))
    prefix = dotted((*table, "")) if whole_key else ""
    guess = _nearest(last, known, prefix)
    section: Any = source.values
    for part in table:
        section = child(section, part)
    kind = child(section, "kind")
    told = f"unknown key of kind '{kind}'" if isinstance(kind, str) and "kind" in known else "unknown key"
    return told + (guess or (f"; known: {', '.join(known)}" if known else ""))


def _nearest(text: Any, known: list[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(str(text), known, n=1)
    return f". Did you mean '{prefix}{near[0]}'?" if near else ""


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
