"""Following run directories: what is new since the last poll, as messages.

A poll reads and never writes, takes whatever a running, killed or restarted writer leaves behind, and is
called in a worker thread, one at a time. Nothing here knows a widget.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textual.message import Message

from di4c_cli.runs import RunDirectory, Status
from di4c_cli.tui.messages import MetricsArrived, PreviewsArrived, RunFacts, RunsListed, StatusArrived
from di4c_cli.tui.pictures import preview_files, read_previews
from di4c_cli.tui.series import number

CHUNK = 2**21  # bytes a poll reads at most: a long history arrives in pieces, and the screen stays alive
_ANCHOR = 64  # bytes before the offset that must still be there
_LAST_LINES = 2**14  # bytes from the end of metrics.jsonl in which the list looks for the last row


@dataclass(frozen=True)
class Increment:
    """Rows that came; `restarted`: the file is another one now, and the rows are its first."""

    rows: list[dict[str, Any]]
    restarted: bool = False


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects among the lines; anything else is passed over."""
    rows = []
    for line in data.split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


class JsonLinesTail:
    """Follows a file of JSON lines by byte offset, up to its last newline.

    A file that was cut, replaced or rewritten is noticed by the bytes just before the offset, and read anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behind = False  # there was more than one poll reads
        self._offset = 0
        self._anchor = b""

    def poll(self) -> Increment:
        """Up to CHUNK bytes more. A missing file has nothing new; it may come back."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset - len(self._anchor))
                restarted = file.read(len(self._anchor)) != self._anchor
                if restarted:
                    self._offset, self._anchor = 0, b""
                    file.seek(0)
                data = file.read(CHUNK)
        except OSError:
            return Increment([])
        self.behind = len(data) == CHUNK
        end = data.rfind(b"\n") + 1
        if end == 0 and self.behind:  # no metrics row is as long: pass over it
            end = CHUNK
        whole = data[:end]
        self._offset += end
        self._anchor = (self._anchor + whole)[-_ANCHOR:]
        return Increment(parse_lines(whole), restarted)


def _whole(value: Any) -> int:
    value = number(value)
    return int(value) if value is not None and math.isfinite(value) else 0


def read_facts(run: RunDirectory, row: dict[str, Any]) -> RunFacts:
    """The run's status and its last metrics row as clean facts."""
    if not RunDirectory.is_run(run.path):
        return RunFacts(path=run.path, name=run.name, message="no run here yet")
    status = run.status()
    pid = _whole(status.pid)
    clean = Status(
        state=str(status.state),
        heartbeat=number(status.heartbeat) or 0.0,
        pid=pid if 0 < pid < 2**31 else 0,
        host=str(status.host),
    )
    return RunFacts(
        path=run.path,
        name=run.name,
        state=clean.visible_state,
        recipe=str(status.recipe or run.path.parent.name),
        role=str(status.role),
        step=_whole(status.step),
        steps=_whole(status.steps),
        updated=clean.heartbeat or run.updated,
        elapsed=number(status.elapsed),
        eta=number(status.eta),
        loss=number(row.get("loss")),
        samples_per_s=number(row.get("samples_per_s")),
        memory_mb=number(row.get("memory_mb")),
        message=str(status.message or ""),
    )


class RunTail:
    """Follows one run: its status, its metrics and its previews."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.wanted: int | None = None  # training step of the previews to show; None: the newest
        self._metrics = JsonLinesTail(run.metrics_path)
        self._row: dict[str, Any] = {}
        self._facts: RunFacts | None = None
        self._previews: object = None

    @property
    def behind(self) -> bool:
        """There is more to read right away."""
        return self._metrics.behind

    def poll(self) -> list[Message]:
        """What changed since the last poll; the first poll tells everything."""
        messages: list[Message] = []
        increment = self._metrics.poll()
        if increment.rows or increment.restarted:
            for row in increment.rows:
                self._row |= row
            messages.append(MetricsArrived(increment.rows, increment.restarted))
        facts = read_facts(self.run, self._row)
        if facts.state == "waiting" and self._facts is not None and self._facts.state != "waiting":
            facts = replace(self._facts, state="deleted", message="the run directory is gone")
        if facts != self._facts:
            self._facts = facts
            messages.append(StatusArrived(facts))
        return messages + self._poll_previews()

    def _poll_previews(self) -> list[Message]:
        try:
            folders = {int(path.name.removeprefix("step-")): path for path in self.run.samples()}
        except OSError:  # the run is being deleted
            return []
        if folders and not preview_files(folders[max(folders)]):  # just made, nothing in it yet
            del folders[max(folders)]
        if not folders:
            return []
        step = self.wanted if self.wanted in folders else max(folders)
        state = (tuple(folders), step, _signature(folders[step]))
        if state == self._previews:
            return []
        self._previews = state
        return [PreviewsArrived(tuple(folders), step, read_previews(folders[step]))]


def _signature(folder: Path) -> object:
    """Changes when a preview or its layout is written."""
    signature = []
    for path in (*preview_files(folder).values(), folder / "grid.json"):
        try:
            stat = path.stat()
        except OSError:
            continue
        signature.append((path.name, stat.st_size, stat.st_mtime_ns))
    return signature


class RunsTail:
    """Follows the list of runs below a root, or a given choice of them."""

    behind = False  # one poll tells everything

    def __init__(self, root: Path, only: tuple[RunDirectory, ...] = ()) -> None:
        self.root, self.only = root, only
        self._rows: dict[Path, tuple[object, dict[str, Any]]] = {}

    def runs(self) -> list[RunDirectory]:
        """Newest first."""
        found = (
            sorted(self.only, key=lambda run: run.updated) if self.only else RunDirectory.find_all(self.root)
        )
        return found[::-1]

    def poll(self) -> list[Message]:
        try:
            runs = self.runs()
        except OSError:  # the root is being deleted; the next poll will see
            return []
        return [RunsListed(tuple(read_facts(run, self._last_row(run)) for run in runs))]

    def _last_row(self, run: RunDirectory) -> dict[str, Any]:
        """The last whole row of metrics.jsonl, read again only when the file has changed."""
        try:
            stat = run.metrics_path.stat()
            state = (stat.st_size, stat.st_mtime_ns)
            known = self._rows.get(run.path)
            if known is not None and known[0] == state:
                return known[1]
            with open(run.metrics_path, "rb") as file:
                file.seek(max(0, stat.st_size - _LAST_LINES))
                data = file.read()
        except OSError:
            return {}
        rows = parse_lines(data[: data.rfind(b"\n") + 1])
        row = rows[-1] if rows else {}
        self._rows[run.path] = (state, row)
        return row
