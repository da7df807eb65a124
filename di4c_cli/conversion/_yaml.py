"""As much of YAML as published model.yaml files use: tables, lists of plain values, plain values."""

import re
from typing import Any

_ENTRY = re.compile(r"""(?P<key>[\w.-]+|"[^"]*"|'[^']*')\s*:(?:\s+(?P<value>.*))?""")
_PLAIN = {"true": True, "false": False, "null": None, "~": None, "": None}


def parse(text: str) -> dict[str, Any]:
    """The tables of a document.

    Raises:
        ValueError: a line that is more YAML than this.
    """
    root: dict[str, Any] = {}
    open_tables: list[tuple[int, dict[str, Any]]] = [(-1, root)]  # with their keys' indentation
    last: tuple[int, dict[str, Any], str] | None = None  # a key without a value: a table or list follows
    for number, line in enumerate(text.splitlines(), start=1):
        content = re.sub(r"(^|\s)#.*", "", line).rstrip()
        bare = content.lstrip(" ")
        if not bare or bare == "---":
            continue
        indent = len(content) - len(bare)
        if bare.startswith("- ") and last is not None and indent >= last[0]:
            _, table, key = last
            items = table[key] if isinstance(table[key], list) else []
            table[key] = [*items, _value(bare[2:], number)]
            continue
        match = _ENTRY.fullmatch(bare)
        if match is None:
            raise ValueError(f"line {number}: {bare!r} is not understood")
        if last is not None and indent > last[0] and last[1][last[2]] is None:
            last[1][last[2]] = {}
            open_tables.append((indent, last[1][last[2]]))
        while len(open_tables) > 2 and open_tables[-1][0] > indent:
            open_tables.pop()
        if open_tables[-1][0] == -1:
            open_tables.append((indent, root))
        if open_tables[-1][0] != indent:
            raise ValueError(f"line {number}: its indentation fits no table")
        key, table = match["key"].strip("\"'"), open_tables[-1][1]
        if key in table:
            raise ValueError(f"line {number}: {key} is there twice")
        table[key] = _value(match["value"] or "", number)
        last = (indent, table, key) if table[key] is None else None
    return root


def _value(text: str, number: int) -> Any:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return [_value(part, number) for part in inner.split(",")] if inner else []
    if text == "{}":
        return {}
    if text[:1] in '"' + "'" and len(text) > 1 and text[0] == text[-1]:
        return text[1:-1]
    if text[:1] in ("[", "{", "&", "*", "!", "|", ">", '"', "'", "%", "@"):
        raise ValueError(f"line {number}: {text!r} is not understood")
    if text.lower() in _PLAIN:
        return _PLAIN[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
