"""What the tails tell the screens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.message import Message

from di4c_cli.tui.evaluation import Evaluation
from di4c_cli.tui.pictures import Preview
from di4c_cli.tui.rows import Batch


@dataclass
class News(Message):
    """Everything that one poll found, so that it costs one repaint."""

    items: list[Any]


@dataclass(frozen=True)
class RunFacts:
    """One run at one moment, cleaned of whatever a damaged file may hold.

    `state` is that of `Status.visible_state`, or "waiting" (no run there yet) or "deleted" (it was there).
    `updated` and `started` in Unix time, `elapsed` and `eta` in seconds, `memory_mb` in MiB; None: not known.
    """

    path: Path
    name: str
    state: str = "waiting"
    recipe: str = ""
    role: str = ""
    step: int = 0
    steps: int = 0
    pid: int = 0
    host: str = ""
    started: float = 0.0
    updated: float | None = None
    elapsed: float | None = None
    eta: float | None = None
    loss: float | None = None
    samples_per_s: float | None = None
    memory_mb: float | None = None
    message: str = ""


@dataclass(frozen=True)
class RunsListed:
    """The runs below the root, newest first."""

    runs: tuple[RunFacts, ...]


@dataclass(frozen=True)
class StatusArrived:
    """The run's status line changed."""

    facts: RunFacts


@dataclass(frozen=True)
class MetricsArrived:
    """New rows of metrics.jsonl. `restarted`: the file was replaced, and these rows begin it.

    `share` of the file that has been read by now.
    """

    run: Path
    batches: list[Batch]
    restarted: bool
    share: float = 1.0


@dataclass(frozen=True)
class OverviewArrived:
    """Rows from places all over a long metrics.jsonl, to be looked at until all of it has been read."""

    run: Path
    batches: list[Batch]


@dataclass(frozen=True)
class PreviewsArrived:
    """The previews made at training step `step`, one of `steps` (ascending)."""

    steps: tuple[int, ...]
    step: int
    folder: Path
    previews: tuple[Preview, ...]


@dataclass(frozen=True)
class RecipeArrived:
    """The run's resolved recipe: (dotted key, value as JSON, origin), in the order of the file."""

    run: Path
    values: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class EvaluationArrived:
    """The run's eval/results.json."""

    run: Path
    evaluation: Evaluation | None
