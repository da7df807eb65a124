"""`key=value` on the command line: dotted keys, TOML-typed values."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from pydantic import BaseModel

from di4c_cli.errors import RecipeError, UsageError
from di4c_cli.recipe_file._lines import Key, dotted
from di4c_cli.recipe_file._walk import list_at, takes_null

_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_FLAG = re.compile(r"--?(?P<key>[A-Za-z_][\w-]*(\.[\w-]+)*)(=(?P<value>.*))?", re.DOTALL)


@dataclass(frozen=True)
class Override:
    """One `key=value`; None is `null`."""

    text: str
    key: Key
    value: Any


def parse_override(text: str) -> tuple[str, Any]:
    """The dotted key and the value: a TOML value, failing that the bare string; `null` is None.

    Raises:
        UsageError: not of the form `key=value`; a flag is answered with the right spelling.
    """
    key, equals, value = text.partition("=")
    flag = _FLAG.fullmatch(text)
    if flag:
        spelling = f"{flag['key']}={flag['value'] or '...'}"
        raise UsageError(f"{text}: a recipe value is not an option", f"write {spelling}")
    if not equals or not _KEY.fullmatch(key):
        raise UsageError(f"{text}: not an override", "write key=value, as in train.steps=200")
    return key, _typed(value)


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """All overrides of a command line, in their order."""
    for flag, value in zip(texts, [*texts[1:], ""], strict=False):
        if (match := _FLAG.fullmatch(flag)) and match["value"] is None and value and "=" not in value:
            spelling = f"{match['key']}={value}"
            raise UsageError(f"{flag} {value}: a recipe value is not an option", f"write {spelling}")
    parsed = [(text, *parse_override(text)) for text in texts]
    return [Override(text, as_key(key), value) for text, key, value in parsed]


def defects(values: dict[str, Any], overrides: Sequence[Override]) -> list[Override]:
    """What a recipe's `[defects]` table sets where `parity = true`, by the file or by an override."""
    given = [override.value for override in overrides if override.key == ("parity",)]
    parity, table = (given or [values.get("parity")])[-1], values.get("defects")
    if parity is not True or not isinstance(table, dict):
        return []
    return [
        Override(f"parity=true ({key})", as_key(key), value)
        for key, value in table.items()
        if _KEY.fullmatch(key)
    ]


def as_key(text: str) -> Key:
    """A dotted key's parts; whole numbers are indices."""
    return tuple(int(part) if part.isdecimal() else part for part in text.split("."))


def _typed(text: str) -> Any:
    if text.strip() == "null":
        return None
    try:
        # Inside a list a comment would swallow the bracket: `a=1 # b` is a string, not the number 1.
        whole = tomllib.loads(f"value = {text}")
        items = tomllib.loads(f"value = [{text}]")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    if whole.keys() != {"value"} or items != {"value": [whole["value"]]}:
        return text
    value = whole["value"]
    return text if isinstance(value, date | time) else value  # no recipe value is a date


def merge(values: dict[str, Any], override: Override, model: type[BaseModel]) -> bool:
    """Write an override into a recipe's plain values, in place; True where a list became shorter.

    A table is merged into the table that is there, anything else replaces. One entry of a list can be
    changed, or added at its end; where the recipe is silent, the list is the default one. None is written
    where the model has a use for it, and otherwise takes the key away.
    """
    table: Any = values
    for depth, following in enumerate(override.key[1:], start=1):
        part = _slot(table, override, depth - 1)
        known = list_at(model, values, override.key[:depth]) if isinstance(following, int) else None
        new = {} if known is None else known
        if isinstance(table, list) and part == len(table):
            table.append(new)
        elif isinstance(table, dict):
            table.setdefault(part, new)
        table = table[part]
    part = _slot(table, override, len(override.key) - 1)
    removed = override.value is None and not takes_null(model, values, override.key)
    if isinstance(table, list):
        table[part : part + 1] = [] if removed else [_merged(table, part, override.value)]
        return removed
    if removed:
        table.pop(part, None)
    else:
        table[part] = _merged(table, part, override.value)
    return False


def _merged(table: Any, part: Any, new: Any) -> Any:
    try:
        old = table[part]
    except LookupError:
        return new
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merged(old, key, value) for key, value in new.items()}
    return new


def _slot(table: Any, override: Override, depth: int) -> Any:
    """Where in `table` the override's part at `depth` belongs: a key, or an index up to the list's length."""
    part, where = override.key[depth], dotted(override.key[:depth])
    if isinstance(table, dict):
        return str(part)
    if not isinstance(table, list):
        raise RecipeError(f"override {override.text}: {where} is a value, not a table")
    if not isinstance(part, int):
        raise RecipeError(f"override {override.text}: {where} is a list", f"write {where}.0.{part}=...")
    if part > len(table):
        raise RecipeError(f"override {override.text}: {where} has {len(table)} entries, counted from 0")
    return part
