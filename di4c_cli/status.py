"""What status.json says of a run, read with tolerance (standard library only)."""

import math
import os
import socket
import time
from dataclasses import dataclass, fields
from typing import Any

STALE_AFTER = 60.0  # seconds without a heartbeat before a "running" run counts as stale


def one_line(text: str) -> str:
    """Text from outside as it may reach a terminal: no control characters, no line breaks."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "·" for c in text)


def age(moment: float) -> str:
    """How long ago that was: `12 s`, `5 min`, `3 h` or `2 d`."""
    seconds = max(0.0, time.time() - moment)
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


@dataclass(kw_only=True)
class Status:
    """What status.json says. `eta` and `elapsed` in seconds, `started` and `heartbeat` in Unix time."""

    state: str = "running"  # running | finished | interrupted | failed
    recipe: str = ""
    role: str = ""
    step: int = 0
    steps: int = 0
    pid: int = 0
    host: str = ""
    started: float = 0.0
    heartbeat: float = 0.0
    elapsed: float = 0.0
    eta: float | None = None
    message: str = ""
    matrix: str = ""  # the name of the matrix that it is a cell of

    @classmethod
    def of(cls, content: dict[str, Any]) -> "Status":
        """From the content of a file: what does not fit its field reads as if it were missing."""
        known = {
            field.name: _fitting(content[field.name], field.default)
            for field in fields(cls)
            if field.name in content
        }
        return cls(**known)

    @property
    def visible_state(self) -> str:
        """`state`, or "stale" for a run that says it is running but has stopped breathing."""
        if self.state != "running":
            return self.state
        if time.time() - self.heartbeat > STALE_AFTER:
            return "stale"
        if self.host == socket.gethostname() and 0 < self.pid < 2**31 and not _alive(self.pid):
            return "stale"
        return "running"


def _fitting(value: Any, default: Any) -> Any:
    """The value if it is of the kind of `default` (None: a number), else the default."""
    if isinstance(default, str):
        return one_line(value) if isinstance(value, str) else default
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    try:
        return int(value) if isinstance(default, int) else float(value) if math.isfinite(value) else default
    except (OverflowError, ValueError):  # not finite, or too large for a float
        return default


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
