"""Passwords and tokens are never written down (standard library only)."""

import re
from typing import Any

HIDDEN = "***"
_WORD = r"(?i:token|secret|password|passwd|passphrase|(?:api|access|private|secret)[_-]?key|credentials?)"
_NAME = re.compile(rf"(?:^|[._-]){_WORD}$")
"""A secret's name ends with such a word: `hf.token` and `access_token`, not `tokens` or `mask_token_id`."""
_ADDRESS = re.compile(r"://[^\s\"']+")
_PARAMETER = re.compile(
    r"(?i)([?&#;][^=&#;]*(?:token|secret|signature|passw|credential|key|\bsig)[^=&#;]*)=[^&#;]+"
)

_STRING = r'''"""(?:\\.|[^\\])*?"""|\'\'\'(?s:.)*?\'\'\'|"(?:\\.|[^"\\\n])*"|'[^'\n]*\''''
_COMMENT = r"\#[^\n]*"
_FLAT = rf"(?:{_STRING}|{_COMMENT}|[^\[\]{{}}\"'\#])*"
_LIST = rf"[\[{{]{_FLAT}(?:[\[{{]{_FLAT}[\]}}]{_FLAT})*[\]}}]"
_NAMED = rf"(?P<name>(?:(?<![\w.-])|(?=[\"']))[\"']?(?:[\w.-]*[._-])?{_WORD}[\"']?[ \t]*=[ \t]*)"
_IN_WORDS = re.compile(rf"{_NAMED}(?P<value>{_STRING}|{_LIST}|[^\s,\]}}]+)")
_IN_TOML = re.compile(rf"{_NAMED}(?:{_STRING}|{_LIST}|[^\s,\]}}\#]+)|{_STRING}|{_COMMENT}")


def redacted(value: Any, name: str = "") -> Any:
    """Plain data without secrets in addresses, under names of secrets, and behind such names in a string.

    Entries `NAME=WORDS` of a command line count as named.
    """
    if isinstance(value, dict):
        return {key: redacted(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    if _NAME.search(name):
        return HIDDEN
    value = _ADDRESS.sub(_address, value)
    before, equals, _ = value.partition("=")
    return f"{before}={HIDDEN}" if equals and _NAME.search(before) else _IN_WORDS.sub(_in_words, value)


def redacted_toml(text: str) -> str:
    """The text of a recipe without secrets: still TOML, comments and all."""
    return _IN_TOML.sub(_in_toml, _ADDRESS.sub(_address, text))


def _address(found: re.Match[str]) -> str:
    """All before the last @ may be a password: it may hold a slash or an @ of its own."""
    _, at, rest = found[0].rpartition("@")
    return _PARAMETER.sub(rf"\1={HIDDEN}", f"://{HIDDEN}@{rest}" if at else rest)


def _in_words(found: re.Match[str]) -> str:
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    return f"{found['name']}{quote}{HIDDEN}{quote}"


def _in_toml(found: re.Match[str]) -> str:
    """A secret becomes a string; strings and comments that hold one stay what they are."""
    piece = found[0]
    if found["name"]:
        return f'{found["name"]}"{HIDDEN}"'
    width = 0 if piece[0] == "#" else 3 if len(piece) > 5 and piece[:3] in ('"""', "'''") else 1
    inside = piece[width : len(piece) - width]
    return piece[:width] + _IN_WORDS.sub(_in_words, inside) + piece[len(piece) - width :]
