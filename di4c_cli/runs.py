"""Run directories: plain files that the trainer writes and everybody else reads.

    <root>/<recipe>/<role>-<n>/
        recipe.toml     the recipe as given          resolved.json   every value with its origin
        status.json     state, pid, heartbeat, step  metrics.jsonl   one JSON object a line
        log.txt         narration                    samples/step-N/ previews
        step-N/         resumable checkpoint         final/          the finished model
        latest, best    names of checkpoints         non-finite/     a batch that ended the run

Standard library only: the monitor reads runs without torch.
"""

import io
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from di4c_cli.errors import UsageError
from di4c_cli.files import fsync, open_to_read, remove, write_text_atomic
from di4c_cli.status import STALE_AFTER as STALE_AFTER
from di4c_cli.status import Status as Status
from di4c_cli.status import age as age
from di4c_cli.status import one_line as one_line

ROLES = ("teacher", "student")
_BEFORE_STATUS = {"recipe.toml", "resolved.json"}  # what is written before a directory counts as a run
_LAST_LINES = 2**14  # bytes from the end of metrics.jsonl in which the newest figures are looked for


def runs_root() -> Path:
    """The folder that holds all run directories: $DI4C_RUNS, else ./checkpoints."""
    return Path(os.environ.get("DI4C_RUNS") or "checkpoints")


def _within(folder: str) -> list[str]:
    """The paths in a folder; none where it is no folder, or is being deleted."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries]
    except OSError:
        return []


def _written(path: str) -> float | None:
    """When a file was written, in Unix time; None where there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime if stat.S_ISREG(found.st_mode) else None


def _json_of(path: Path) -> Any:
    with open_to_read(path) as file:
        return json.loads(file.read().decode())


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk. Reading tolerates what a running or killed writer leaves behind."""

    path: Path

    # -- making and finding ------------------------------------------------------------------

    @classmethod
    def create(
        cls, recipe: str, role: str, name: str | None = None, root: Path | None = None
    ) -> "RunDirectory":
        """A new directory `<root>/<recipe>/<role>-<n>`; an existing one is never reused."""
        parent = (root or runs_root()) / recipe
        if name is not None:
            cls.require_free(parent, name)
        parent.mkdir(parents=True, exist_ok=True)
        if name is not None:
            (parent / name).mkdir(exist_ok=True)
            return cls(parent / name)
        taken = [int(m[1]) for p in parent.iterdir() if (m := re.fullmatch(rf"{role}-(\d+)", p.name))]
        number = max(taken, default=0) + 1
        while True:
            path = parent / f"{role}-{number}"
            try:
                path.mkdir()
                return cls(path)
            except FileExistsError:  # another process was faster
                number += 1

    @staticmethod
    def require_free(parent: Path, name: str) -> None:
        """Raises UsageError for a name that a new run cannot have.

        A directory that a process left before it was a run is free: it is taken over.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UsageError(f"--name {name!r}: not a plain name", "use letters, digits, '.', '_' and '-'")
        path = parent / name
        if not os.path.lexists(path):
            return
        left = _within(str(path)) if path.is_dir() else [str(path)]
        if {os.path.basename(file) for file in left if not file.endswith(".tmp")} - _BEFORE_STATUS:
            raise UsageError(f"{path}: exists already", "choose another --name, or continue it with --resume")

    @classmethod
    def is_run(cls, path: Path) -> bool:
        return (path / "status.json").is_file()

    @classmethod
    def find_all(cls, root: Path | None = None) -> "list[RunDirectory]":
        """All runs below the root, newest heartbeat last."""
        root = root or runs_root()
        # Not by Path.glob: there may be thousands, and the monitor looks again and again.
        found = [
            (moment, path)
            for recipe in _within(str(root))
            for path in _within(recipe)
            if (moment := _written(f"{path}/status.json")) is not None
        ]
        return [cls(Path(path)) for _, path in sorted(found)]

    @classmethod
    def resolve(cls, text: str, root: Path | None = None) -> "RunDirectory":
        """A run from what the user typed: a directory, `<recipe>/<role>-<n>` below the root, or `latest`."""
        if text == "latest":
            runs = cls.find_all(root)
            if not runs:
                raise UsageError(
                    f"latest: no runs below {root or runs_root()}", "start one: di4c distill digits"
                )
            return runs[-1]
        for path in (Path(text), (root or runs_root()) / text):
            if cls.is_run(path):
                return cls(path)
        raise UsageError(f"{text}: no such run", "`di4c runs` lists them")

    # -- files -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """`<recipe>/<role>-<n>`, the short name people type."""
        return one_line(f"{self.path.parent.name}/{self.path.name}")

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def updated(self) -> float:
        """Unix time at which status.json was written."""
        try:
            return (self.path / "status.json").stat().st_mtime
        except OSError:
            return 0.0

    def last_seen(self, status: Status) -> float:
        """Unix time of the last sign of life: of a copied file its heartbeat, of a clock that is ahead the
        time of the file.
        """
        return min(status.heartbeat or self.updated, self.updated)

    def checkpoints(self) -> list[Path]:
        """The `step-<N>` folders, oldest first (unfinished `.tmp` ones are not listed)."""
        found = [
            (int(m[1]), p) for p in self.path.glob("step-*") if (m := re.fullmatch(r"step-(\d+)", p.name))
        ]
        return [path for _, path in sorted(found)]

    def samples(self) -> list[Path]:
        """The `samples/step-<N>` folders, oldest first."""
        found = [
            (int(m[1]), p)
            for p in (self.path / "samples").glob("step-*")
            if (m := re.fullmatch(r"step-(\d+)", p.name))
        ]
        return [path for _, path in sorted(found)]

    # -- reading -----------------------------------------------------------------------------

    def status(self) -> Status:
        """The run's status; a missing or damaged file reads as a failed run."""
        try:
            content = _json_of(self.path / "status.json")
        except (OSError, ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            return Status(state="failed", message="status.json is missing or damaged")
        return Status.of(content)

    def resolved(self) -> dict[str, Any]:
        """resolved.json, or {} where there is none; what is no entry of its `values` is left out."""
        try:
            content = _json_of(self.path / "resolved.json")
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict):
            return {}
        values = content.get("values")
        entries = values.items() if isinstance(values, dict) else ()
        return content | {"values": {key: entry for key, entry in entries if isinstance(entry, dict)}}

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Whole lines of metrics.jsonl; a half-written or damaged line is passed over."""
        try:
            with open_to_read(self.metrics_path) as file:
                for line in io.TextIOWrapper(file, encoding="utf-8", errors="replace"):
                    if not line.endswith("\n"):
                        return
                    try:
                        row = json.loads(line)
                    except (ValueError, RecursionError):
                        continue
                    if isinstance(row, dict):
                        yield row
        except OSError:
            return

    def last_figures(self, *names: str) -> dict[str, Any]:
        """The newest value of each metric, looked for near the end of metrics.jsonl only."""
        figures: dict[str, Any] = {}
        try:
            with open_to_read(self.metrics_path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LAST_LINES))
                lines = file.read().split(b"\n")[:-1]
        except OSError:
            return figures
        for line in reversed(lines):
            if len(figures) == len(names):
                break
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                figures = {name: row[name] for name in names if name in row} | figures
        return figures

    # -- writing -----------------------------------------------------------------------------

    def refuse_links(self) -> None:
        """Raises UsageError where going on would write elsewhere: the run may be somebody else's."""
        for path in (
            self.log_path,
            self.metrics_path,
            self.path / "samples",
            *self.path.glob("samples/**/*"),
        ):
            if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
                raise UsageError(f"{path}: is a link or a pipe", "put what it leads to in its place")

    def write_status(self, status: Status) -> None:
        status.heartbeat = time.time()
        write_text_atomic(self.path / "status.json", json.dumps(asdict(status), indent=1) + "\n")

    def write_recipe(self, text: str) -> None:
        """The recipe as given, comments and all."""
        write_text_atomic(self.path / "recipe.toml", text)

    def write_resolved(self, resolved: dict[str, Any]) -> None:
        write_text_atomic(self.path / "resolved.json", json.dumps(resolved, indent=1) + "\n")

    def append_metrics(self, row: dict[str, Any]) -> None:
        """One line, one write: a reader sees it whole or ends before it."""
        with open(self.metrics_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def sync_metrics(self) -> None:
        """Wait until the lines so far are on the disk."""
        if self.metrics_path.exists():
            fsync(self.metrics_path)

    def truncate_metrics(self, step: int) -> None:
        """Drop the lines after `step`, which a resumed run writes again, and those without a step."""
        rows = [(row, row.get("step")) for row in self.metrics()]
        kept = [row for row, at in rows if isinstance(at, int | float) and at <= step]
        write_text_atomic(self.metrics_path, "".join(json.dumps(row) + "\n" for row in kept))

    def remove_half_written(self) -> None:
        """Clear away what a killed writer left behind, and put back what it had only moved aside."""
        for path in self.path.glob("*.tmp"):
            remove(path)
        for path in self.path.glob(".*.old"):
            replaced = path.with_name(path.name.removeprefix(".").removesuffix(".old"))
            remove(path) if replaced.exists() else path.rename(replaced)

    def point(self, name: str, checkpoint: Path) -> None:
        """Name a checkpoint in the file `latest` or `best`, for people and scripts: no command follows it."""
        write_text_atomic(self.path / name, f"{checkpoint.name}\n")

    def forget(self, checkpoint: Path) -> None:
        """Remove a checkpoint, under another name first: a killed writer leaves no half of one."""
        removed = checkpoint.with_name(f".{checkpoint.name}.tmp")
        remove(removed)
        os.replace(checkpoint, removed)
        remove(removed)

    def set_aside(self, checkpoint: Path) -> None:
        """Keep a damaged checkpoint under a name that is not one of a checkpoint."""
        aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
        remove(aside)
        os.replace(checkpoint, aside)

    def log(self, line: str) -> None:
        with open(self.log_path, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
