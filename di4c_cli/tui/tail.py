"""Following run directories: what is new since the last poll.

A poll reads and never writes, takes whatever a running, killed or restarted writer leaves behind, and is
called in a worker thread, one at a time. Nothing here knows a widget.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from di4c_cli.runs import RunDirectory, one_line
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
from di4c_cli.tui.rows import batches, number


def read_facts(run: RunDirectory, figures: dict[str, Any]) -> RunFacts:
    """The run's status and its newest figures as clean facts."""
    if not RunDirectory.is_run(run.path):
        return RunFacts(path=run.path, name=run.name, message="no run here yet")
    status = run.status()
    return RunFacts(
        path=run.path,
        name=run.name,
        state=status.visible_state,
        recipe=status.recipe or one_line(run.path.parent.name),
        role=status.role,
        step=status.step,
        steps=status.steps,
        pid=status.pid if 0 < status.pid < 2**31 else 0,
        host=status.host,
        started=status.started,
        updated=run.last_seen(status) or None,
        elapsed=status.elapsed,
        eta=status.eta,
        loss=number(figures.get("loss")),
        samples_per_s=number(figures.get("samples_per_s")),
        memory_mb=number(figures.get("memory_mb")),
        message=status.message,
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
        if facts.state == "deleted":  # what is known of it stays
            return items
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
        if increment.restarted:
            self._row = {}
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
        while folders and not preview_files(folders[max(folders)]):  # just made, nothing in it yet
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
        self._known: dict[str, tuple[object, RunFacts]] = {}  # by path: what was read, and what it said

    def poll(self) -> list[Any]:
        self._known = {str(run.path): self._look(run) for run in RunDirectory.find_all(self.root)}
        return [RunsListed(tuple(sorted((facts for _, facts in self._known.values()), key=_newest_first)))]

    def _look(self, run: RunDirectory) -> tuple[object, RunFacts]:
        path = str(run.path)
        signature = _signature(f"{path}/status.json", f"{path}/metrics.jsonl")
        known = self._known.get(path)
        if known is not None and known[0] == signature and known[1].state != "running":
            return known
        return signature, read_facts(run, run.last_figures("loss", "samples_per_s"))


def _newest_first(facts: RunFacts) -> tuple[float, str]:
    """By the start, not by the heartbeat: two runs that train would change places all the time."""
    return -(facts.started or facts.updated or 0.0), facts.name
