"""Passwords and tokens are never written down (standard library only)."""

import re
from typing import Any

HIDDEN = "***"
_IN_URL = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")
_NAME = re.compile(r"(?i)(^|[._-])(token|secret|password|passwd|api_?key|credentials?)$")


def redacted(value: Any, name: str = "") -> Any:
    """Plain data without `user:password` in URLs, and without words under names of secrets.

    Entries `NAME=WORD` of a command line count as named.
    """
    if isinstance(value, dict):
        return {key: redacted(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    before, equals, _ = value.partition("=")
    if equals and _NAME.search(before):
        return f"{before}={HIDDEN}"
    return HIDDEN if _NAME.search(name) else _IN_URL.sub(HIDDEN, value)
