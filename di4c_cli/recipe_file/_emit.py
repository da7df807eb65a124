"""A resolved recipe as TOML that can be read back."""

import json
import re
from collections.abc import Mapping
from typing import Any

from di4c_cli.recipe_file._lines import Key, dotted


def to_toml(config: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> str:
    """Nested plain data as a TOML document; `origins` by dotted key become comments behind the values.

    TOML has no null: keys without a value stand in comments.
    """
    return "\n".join(_table(config, (), (), origins or {})).strip("\n") + "\n"


def _table(
    table: Mapping[str, Any], key: Key, header: tuple[str, ...], origins: Mapping[str, str]
) -> list[str]:
    """Lines of one table; `key` counts the entries of lists, `header` (as TOML has it) does not."""
    lines, below = [], []
    for name, value in table.items():
        place, path = (*key, name), (*header, name)
        if isinstance(value, dict):
            below += ["", f"[{_header(path)}]", *_table(value, place, path, origins)]
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            for index, entry in enumerate(value):
                below += ["", f"[[{_header(path)}]]", *_table(entry, (*place, index), path, origins)]
        else:
            line = f"{_name(name)} = {_value(value)}" if value is not None else f"# {_name(name)} = null"
            origin = origins.get(dotted(place))
            lines.append(f"{line}  # {origin}" if origin else line)
    return lines + below


def _header(path: tuple[str, ...]) -> str:
    return ".".join(_name(part) for part in path)


def _name(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _value(text)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_name(k)} = {_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, float):
        return repr(value)  # inf and nan as TOML writes them
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
