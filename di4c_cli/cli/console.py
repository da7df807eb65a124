"""What commands print: results to stdout, narration to stderr. The only place in the CLI that knows rich."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from di4c_cli.errors import Di4CError, Interrupted, NonFiniteLossError
from di4c_cli.launch import place
from di4c_cli.runs import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

UNBOUNDED = 10_000  # columns of a "terminal" that is a file or a pipe: nothing is cut


def _console(*, stderr: bool = False) -> "Console":
    """A console on what the stream is at this moment (rich honours NO_COLOR and TERM=dumb)."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else UNBOUNDED
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


# -- results: stdout -----------------------------------------------------------------------------


def print_json(data: Any) -> None:
    """One JSON document, strict: what is not finite is null."""
    print(json.dumps(_strict(data), indent=1, ensure_ascii=False, allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Sequence[str] = ()
) -> None:
    """A table; the columns named in `numbers` are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    _console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """One `name  value` a line, values aligned."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {brief(value)}")


def brief(value: Any) -> str:
    """A value for the eye: four figures, tables on one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {brief(inner)}" for key, inner in value.items())
    return str(value)


def can_print(text: str) -> bool:
    """Whether stdout's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


# -- narration: stderr ---------------------------------------------------------------------------


def narrate(text: str, *, style: str | None = None) -> None:
    """One line on stderr. A reader of stderr who has left is no reason to stop a training run.

    What it quotes may come from a file of somebody else: control characters never reach the terminal.
    """
    text = "\n".join(one_line(line) for line in text.split("\n"))
    try:
        if sys.stderr.isatty():
            _console(stderr=True).print(text, style=style, soft_wrap=True)
        else:  # not through rich, which ends the program when a pipe is closed
            print(text, file=sys.stderr, flush=True)
    except OSError:
        return


def error(problem: Di4CError) -> None:
    """The message as it is (an editor finds FILE:LINE at its beginning), the hint behind it.

    Of several processes the first tells what all of them meet together.
    """
    rank, _ = place()
    if rank == 0:
        narrate(str(problem), style="red")
    elif not isinstance(problem, Interrupted | NonFiniteLossError):
        narrate(f"process {rank}: {problem}", style="red")


class Progress:
    """Called with (step, steps, row) while something runs; hears what core code reports meanwhile.

    A bar with the time left on a terminal; elsewhere a plain line every `interval` seconds (readable logs).
    """

    def __init__(self, label: str, *, quiet: bool = False, interval: float = 10.0) -> None:
        self.label = label
        self.quiet = quiet or place()[0] > 0
        self.interval = interval
        self._bar: Bar | None = None
        self._first: tuple[float, int] | None = None  # when it began, and at which step (a resumed run's)
        self._last_line = -math.inf
        self._work: Progress | None = None  # a piece of work within, such as the building of a cache
        from di4c_cli.core import progress  # the core is imported by commands that need it

        self._listening = progress.reporting(self._hear, self.narrate)

    def __enter__(self) -> Self:
        self._listening.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.__exit__(kind, problem, trace)
        self._end_work()
        self._stop()

    def _hear(self, done: int, total: int, what: str) -> None:
        if self._work is None or self._work.label != what:
            self._end_work()
            self._work = Progress(what, quiet=self.quiet, interval=self.interval)
        self._work(done, total, {})
        if done >= total:
            self._end_work()

    def _end_work(self) -> None:
        if self._work is not None:
            self._work._stop()
        self._work = None

    def _stop(self) -> None:
        with suppress(OSError):  # the terminal was closed
            if self._bar is not None:
                self._bar.stop()

    def narrate(self, text: str) -> None:
        """A line above the bar, unless told to be quiet."""
        if not self.quiet:
            narrate(text)

    def __call__(self, step: int, steps: int, row: Mapping[str, Any]) -> None:
        if self.quiet:
            return
        now = time.monotonic()
        self._first = self._first or (now, step)
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            try:
                self._draw(step, steps, row)
            except OSError:  # the terminal was closed: the run has something to save yet
                self.quiet = True
        elif now - self._last_line >= self.interval or step == steps:
            self._last_line = now
            left = self._seconds_left(now, step, steps)
            eta = f", {clock(left)} left" if left is not None and step < steps else ""
            narrate(f"{self.label}: {step}/{steps}{_told(row)}{eta}")

    def _draw(self, step: int, steps: int, row: Mapping[str, Any]) -> None:
        if self._bar is None:
            from rich import progress as rich_progress

            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(bar_width=None),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TimeElapsedColumn(),
                rich_progress.TimeRemainingColumn(compact=True),
                rich_progress.TextColumn("{task.fields[told]}"),
                console=_console(stderr=True),
            )
            self._bar.start()
            self._bar.add_task(self.label, total=steps, completed=step, told="")
        self._bar.update(
            self._bar.task_ids[0], completed=step, total=steps, told=_told(row).removeprefix(", ")
        )

    def _seconds_left(self, now: float, step: int, steps: int) -> float | None:
        began, first = self._first or (now, step)
        return (now - began) / (step - first) * (steps - step) if step > first else None


def _told(row: Mapping[str, Any]) -> str:
    """What a row of figures has for the eye: the model that was evaluated, or the loss and the speed."""
    parts = [f"{row['model']} at K = {row['steps']}"] if "model" in row else []
    if isinstance(row.get("loss"), int | float):
        parts.append(f"loss {row['loss']:.4g}")
    if isinstance(row.get("samples_per_s"), int | float):
        parts.append(f"{row['samples_per_s']:.0f} samples/s")
    return "".join(f", {part}" for part in parts)


def clock(seconds: float) -> str:
    """`1:05` or `2:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def colours() -> str:
    """What rich makes of the terminal: truecolor, 256, standard or none."""
    return _console().color_system or "none"
