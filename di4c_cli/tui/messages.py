"""What the tails tell the screens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.message import Message

from di4c_cli.tui.pictures import Preview


@dataclass(frozen=True)
class RunFacts:
    """One run at one moment, cleaned of whatever a damaged file may hold.

    `state` is that of `Status.visible_state`, or "waiting" (no run there yet) or "deleted" (it was there).
    `updated` in Unix time, `elapsed` and `eta` in seconds, `memory_mb` in MiB; None: not known.
    """

    path: Path
    name: str
    state: str = "waiting"
    recipe: str = ""
    role: str = ""
    step: int = 0
    steps: int = 0
    updated: float | None = None
    elapsed: float | None = None
    eta: float | None = None
    loss: float | None = None
    samples_per_s: float | None = None
    memory_mb: float | None = None
    message: str = ""


@dataclass
class RunsListed(Message):
    """The runs below the root, newest first."""

    runs: tuple[RunFacts, ...]


@dataclass
class StatusArrived(Message):
    """The run's status line changed."""

    facts: RunFacts


@dataclass
class MetricsArrived(Message):
    """New rows of metrics.jsonl; `restarted`: the file was replaced, and these rows begin it."""

    rows: list[dict[str, Any]]
    restarted: bool


@dataclass
class PreviewsArrived(Message):
    """The previews made at training step `step`, one of `steps` (ascending)."""

    steps: tuple[int, ...]
    step: int
    previews: tuple[Preview, ...]
