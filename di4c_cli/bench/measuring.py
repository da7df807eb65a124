"""Rows of the table: every call warmed up, counted, watched and timed, unless it would take too much."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from di4c_cli.bench.costs import Cost, cost_of, matmul
from di4c_cli.bench.memory import Peak, available, peak_of
from di4c_cli.bench.timing import Call, in_turn, spread

MATMUL = "matmul"
PATIENCE = 10.0  # seconds of one call
SLOW = 3.0  # seconds of a call after which it is not repeated without need


@dataclass(frozen=True)
class Row:
    """One thing at one batch size; the field names are those of the JSON."""

    what: str
    batch_size: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    peak_mb: float
    extra_mb: float
    """Peak above what was there before the call."""
    samples_per_s: float
    gflop: float
    gb: float
    rounds: int
    matmul_gflop_per_s: float
    """Of a large square matrix product, timed in turn with the rest."""


@dataclass
class Runner:
    """Measures groups of calls, and remembers what it left out."""

    device: torch.device
    rounds: int | None
    """Of timing; None: as many as fit into some seconds."""
    patient: bool
    """Whether calls may take any time."""
    compiled: bool
    """Whether networks are compiled when they first run."""
    dtype: torch.dtype
    """Of the matrix product that is timed beside the rest."""
    narrate: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def row(self, what: str, size: int) -> Row | None:
        """The row of a thing at a batch size, where it was measured."""
        return next((row for row in self.rows if (row.what, row.batch_size) == (what, size)), None)

    def measure(self, size: int, calls: Mapping[str, Call], foreseen: Mapping[str, float]) -> None:
        """Measure calls in turn. `foreseen` holds the memory (MiB) that some are known to need."""
        costs, peaks = {}, {}
        gc.collect()  # what the group before left is not to be freed, and so hidden, in the midst of this one
        for what, call in calls.items():
            refusal = self._refusal(what, size, foreseen.get(what, 0.0))
            if not refusal:
                try:
                    costs[what], peaks[what] = self._seen(call)
                except torch.OutOfMemoryError:
                    torch.cuda.empty_cache()
                    refusal = "out of memory"
            if refusal:
                self.skip(what, size, refusal)
        product, flops = matmul(self.device, self.dtype)
        times = in_turn({what: calls[what] for what in peaks} | {MATMUL: product}, self.device, self.rounds)
        rate = flops / spread(times.pop(MATMUL))["median_ms"] / 1e6
        for what, taken in times.items():
            found = spread(taken)
            self.rows.append(
                Row(
                    what,
                    size,
                    **found,
                    peak_mb=peaks[what].high,
                    extra_mb=peaks[what].rise,
                    samples_per_s=1000 * size / found["median_ms"],
                    gflop=costs[what].flops / 1e9,
                    gb=costs[what].bytes / 1e9,
                    rounds=len(taken),
                    matmul_gflop_per_s=rate,
                )
            )

    def _seen(self, call: Call) -> tuple[Cost, Peak]:
        """What a call costs; it has run as it is when this returns, unless that would take long."""
        if self.compiled:  # what first runs while operations are counted is never compiled
            call()
        started, costs = time.perf_counter(), []
        peak = peak_of(lambda: costs.append(cost_of(call)), self.device)
        if time.perf_counter() - started < SLOW or self.compiled:
            call()
            peak = peak_of(call, self.device)
        return costs[0], peak

    def skip(self, what: str, size: int | None, why: str) -> None:
        """Leave a thing out, aloud. Without a size it is left out altogether."""
        self.skipped.append({"what": what, "batch_size": size, "why": why})
        at = "" if size is None else f" at batch size {size}"
        self.narrate(f"left out: {what}{at}: {why}")

    def _refusal(self, what: str, size: int, foreseen: float) -> str:
        """Why a call is not tried, judged by the same one at the batch size before; "" if it is."""
        before = next((row for row in reversed(self.rows) if row.what == what), None)
        growth = size / before.batch_size if before else 0.0
        seconds = growth * before.median_ms / 1000 if before else 0.0
        if not self.patient and seconds > PATIENCE:
            return f"about {seconds:.0f} s a call (name the size in --batch-sizes to wait for it)"
        needed, free = max(foreseen, growth * before.extra_mb if before else 0.0), available(self.device)
        return f"needs about {needed / 1024:.1f} GiB, {free / 1024:.1f} are free" if needed > free else ""

    def json(self) -> list[dict[str, Any]]:
        """The rows, those of one thing together."""
        order = list(dict.fromkeys(row.what for row in self.rows))
        return [asdict(row) for row in sorted(self.rows, key=lambda row: order.index(row.what))]
