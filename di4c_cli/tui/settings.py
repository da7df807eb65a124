"""What the monitor remembers from one time to the next: how things are looked at, never a run."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_type_hints

from di4c_cli.files import write_text_atomic

SMOOTHING = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_LONGEST = 2**14  # bytes


def settings_path() -> Path:
    """$XDG_STATE_HOME/di4c/monitor.json, by default below ~/.local/state."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # then it does not count, says the specification
        try:
            state = Path("~/.local/state").expanduser()
        except RuntimeError:  # a user without a home: nothing can be remembered
            state = Path(os.devnull)
    return state / "di4c" / "monitor.json"


def _read(path: Path) -> bytes:
    """As much as settings can be; of a pipe or a device that stands there instead, nothing."""
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(_LONGEST)


@dataclass
class Settings:
    """Everything has a default: a file that is missing or damaged changes nothing."""

    theme: str = "textual-dark"
    smoothing: int = 2
    """Index in SMOOTHING."""
    log_y: bool = False
    axis: str = "step"
    columns: int = 2
    """Of the chart grid."""
    charts: bool = True
    side: str = "samples"
    """The pane beside the charts; "": none."""
    compare: str = "evaluation differences"
    """The panes beside the curves when runs are compared."""
    pictures: str = "blocks"
    """blocks, kitty or sixel."""

    @classmethod
    def load(cls, path: Path) -> "Settings":
        try:
            content = json.loads(_read(path))
        except (OSError, ValueError, RecursionError):
            return cls()
        settings = cls()
        if isinstance(content, dict):
            types = get_type_hints(cls)
            for field in fields(cls):
                value = content.get(field.name)
                if type(value) is types[field.name]:
                    setattr(settings, field.name, value)
        settings.smoothing = min(max(settings.smoothing, 0), len(SMOOTHING) - 1)
        settings.columns = min(max(settings.columns, 1), 4)
        settings.axis = settings.axis if settings.axis in ("step", "time") else "step"
        return settings

    def save(self, path: Path) -> None:
        """Forgotten where it cannot be written: that is no reason to trouble anybody."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(path, json.dumps(asdict(self), indent=1) + "\n")
        except OSError:
            return
