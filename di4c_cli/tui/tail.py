"""Following run directories: what is new since the last poll.

A poll reads and never writes, takes whatever a running, killed or restarted writer leaves behind, and is
called in a worker thread, one at a time. Nothing here knows a widget.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from di4c_cli.runs import RunDirectory, Status
from di4c_cli.tui.evaluation import read_evaluation
from di4c_cli.tui.lines import JsonLinesTail, overview
from di4c_cli.tui.messages import (
    EvaluationArrived,
    MetricsArrived,
    OverviewArrived,
    PreviewsArrived,
    RecipeArrived,
    RunFacts,
    RunsListed,
    StatusArrived,
)
from di4c_cli.tui.pictures import preview_files, read_previews
from di4c_cli.tui.series import batches, number


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
        pid=clean.pid,
        host=clean.host,
        started=number(status.started) or 0.0,
        updated=clean.heartbeat or run.updated,
        elapsed=number(status.elapsed),
        eta=number(status.eta),
        loss=number(row.get("loss")),
        samples_per_s=number(row.get("samples_per_s")),
        memory_mb=number(row.get("memory_mb")),
        message=str(status.message or ""),
    )


class RunTail:
    """Follows one run: its status, metrics, previews, recipe and evaluation."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.wanted: int | None = None  # training step of the previews to show; None: the newest
        self._metrics = JsonLinesTail(run.metrics_path)
        self._row: dict[str, Any] = {}
        self._facts: RunFacts | None = None
        self._seen: dict[str, object] = {}
        self._begun = False

    @property
    def behind(self) -> bool:
        """There is more to read right away."""
        return self._metrics.behind

    def poll(self) -> list[Any]:
        """What changed since the last poll; the first poll tells everything (of a long history a part)."""
        if self._begun and self.behind:  # nothing else matters as much
            return self._poll_metrics()
        items = [] if self._begun else self._begin()
        items += self._poll_metrics()
        facts = read_facts(self.run, self._row)
        if facts.state == "waiting" and self._facts is not None and self._facts.state != "waiting":
            facts = replace(self._facts, state="deleted", message="the run directory is gone")
        if facts != self._facts:
            self._facts = facts
            items.append(StatusArrived(facts))
        return items + self._poll_previews() + self._poll_recipe() + self._poll_evaluation()

    def _begin(self) -> list[Any]:
        self._begun = True
        rows = overview(self.run.metrics_path)
        for row in rows[-1:]:
            self._row |= row
        return [OverviewArrived(self.run.path, list(batches(rows)))] if rows else []

    def _poll_metrics(self) -> list[Any]:
        increment = self._metrics.poll()
        if not (increment.rows or increment.restarted):
            return []
        if not self.behind:
            for row in increment.rows:
                self._row |= row
        return [
            MetricsArrived(
                self.run.path, list(batches(increment.rows)), increment.restarted, self._metrics.share
            )
        ]

    def _poll_previews(self) -> list[Any]:
        try:
            folders = {int(path.name.removeprefix("step-")): path for path in self.run.samples()}
        except OSError:  # the run is being deleted
            return []
        if folders and not preview_files(folders[max(folders)]):  # just made, nothing in it yet
            del folders[max(folders)]
        if not folders:
            return []
        step = self.wanted if self.wanted in folders else max(folders)
        folder = folders[step]
        signature = (tuple(folders), step, _signature(*preview_files(folder).values(), folder / "grid.json"))
        return self._changed(
            "previews",
            signature,
            lambda: PreviewsArrived(tuple(folders), step, folder, read_previews(folder)),
        )

    def _poll_recipe(self) -> list[Any]:
        signature = _signature(self.run.path / "resolved.json")
        return self._changed(
            "recipe", signature, lambda: RecipeArrived(self.run.path, recipe_values(self.run.resolved()))
        )

    def _poll_evaluation(self) -> list[Any]:
        path = self.run.path / "eval" / "results.json"
        return self._changed(
            "evaluation",
            _signature(path),
            lambda: EvaluationArrived(self.run.path, read_evaluation(path)),
        )

    def _changed(self, what: str, signature: object, read: Callable[[], Any]) -> list[Any]:
        """What `read` gives, if the signature of its files is another than the last time."""
        if self._seen.get(what, []) == signature:
            return []
        self._seen[what] = signature
        return [read()]


def recipe_values(resolved: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(key, value, origin) from the content of a resolved.json."""
    values = resolved.get("values")
    if not isinstance(values, dict):
        return ()
    return tuple(
        (key, json.dumps(entry.get("value"), ensure_ascii=False), str(entry.get("origin", "")))
        for key, entry in values.items()
        if isinstance(entry, dict)
    )


def _signature(*paths: Path | str) -> list[tuple[str, int, int]]:
    """Changes when one of the files is written; a missing file has no part in it."""
    signature = []
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError:
            continue
        signature.append((str(path), stat.st_size, stat.st_mtime_ns))
    return signature


class SeveralTails:
    """Follows some runs at once."""

    def __init__(self, runs: tuple[RunDirectory, ...]) -> None:
        self.tails = [RunTail(run) for run in runs]

    @property
    def behind(self) -> bool:
        return any(tail.behind for tail in self.tails)

    def poll(self) -> list[Any]:
        late = [tail for tail in self.tails if tail.behind]
        return [item for tail in late or self.tails for item in tail.poll()]


class RunsTail:
    """Follows the list of runs below a root.

    There may be thousands: a run whose files have not changed costs two looks at their dates.
    """

    behind = False  # one poll tells everything

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, tuple[object, RunFacts]] = {}

    def poll(self) -> list[Any]:
        try:
            runs = RunDirectory.find_all(self.root)
        except OSError:  # the root is being deleted; the next poll will see
            return []
        facts = [self._facts(run) for run in runs]
        self._known = {run.path: self._known[run.path] for run in runs if run.path in self._known}
        return [RunsListed(tuple(sorted(facts, key=_newest_first)))]

    def _facts(self, run: RunDirectory) -> RunFacts:
        signature = _signature(f"{run.path}/status.json", f"{run.path}/metrics.jsonl")
        known = self._known.get(run.path)
        if known is not None and known[0] == signature and known[1].state != "running":
            return known[1]
        facts = read_facts(run, run.last_metrics())
        self._known[run.path] = (signature, facts)
        return facts


def _newest_first(facts: RunFacts) -> tuple[float, str]:
    """By the start, not by the heartbeat: two runs that train would change places all the time."""
    return -(facts.started or facts.updated or 0.0), facts.name
