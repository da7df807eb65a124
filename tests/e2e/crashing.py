"""Runs that are killed (SIGKILL) again and again, at any moment and within any write, and resumed."""

import random
import signal
from dataclasses import dataclass

from exact import differing
from program import Program

from di4c_cli.runs import RunDirectory

CLOCK = {"time", "elapsed", "samples_per_s", "memory_mb"}

AT_A_MOMENT = """
import os, signal, threading
timer = threading.Timer({moment}, os.kill, (os.getpid(), signal.SIGKILL))
timer.daemon = True
timer.start()
"""
WITHIN_A_WRITE = """
import os, pathlib, shutil, signal
from di4c_cli.core import checkpoints
from di4c_cli.runs import RunDirectory

left = {operation}

def dies(owner, name):
    function = getattr(owner, name)
    def call(*args, **options):
        global left
        left -= 1
        if left == 0 and {before}:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return function(*args, **options)
        finally:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, call)

for owner, name in (
    (os, "replace"), (os, "fsync"), (os, "rename"), (os, "unlink"), (os, "rmdir"), (pathlib.Path, "mkdir"),
    (pathlib.Path, "write_text"), (checkpoints, "save_file"), (shutil, "copymode"),
    (RunDirectory, "append_metrics"), (RunDirectory, "log"),
):
    dies(owner, name)
"""
"""Before or behind the n-th operation on files."""


@dataclass(frozen=True)
class Crashing:
    """A training command and its recipe."""

    program: Program
    command: list[str]
    recipe: str
    environment: dict[str, str]

    def whole(self) -> RunDirectory:
        """The uninterrupted run."""
        return self.attempt("whole", "")[1]

    def attempt(self, name: str, prelude: str) -> tuple[int, RunDirectory]:
        """Begin a run, or take it up where it was; its exit code."""
        run = RunDirectory(self.program.runs / self.recipe / name)
        resume = RunDirectory.is_run(run.path)
        line = [self.command[0], "--resume", run.name] if resume else [*self.command, "--name", name]
        outcome = self.program(*line, "--quiet", prelude=prelude, **self.environment)
        assert outcome.code in (0, -signal.SIGKILL), outcome.err
        return outcome.code, run

    def killed(self, kills: int, seconds: float, operations: int, seed: int) -> list[RunDirectory]:
        """Runs that together were killed that often, and then went on to their ends.

        An uninterrupted run takes about so many seconds and operations on files.
        """
        draw, finished = random.Random(seed), list[RunDirectory]()
        while kills:
            code, run = self.attempt(f"killed-{len(finished)}", _death(draw, seconds, operations))
            kills -= code != 0
            if code == 0 or _all_written(run):  # before its time came, or on its way out
                finished.append(run)
        return [*finished, self.attempt(f"killed-{len(finished)}", "")[1]]


def _all_written(run: RunDirectory) -> bool:
    return RunDirectory.is_run(run.path) and run.status().state == "finished"


def _death(draw: random.Random, seconds: float, operations: int) -> str:
    if draw.random() < 0.5:
        return AT_A_MOMENT.format(moment=draw.uniform(0, seconds))
    return WITHIN_A_WRITE.format(operation=draw.randint(1, operations), before=draw.random() < 0.5)


def assert_as_if_nothing_happened(run: RunDirectory, whole: RunDirectory) -> None:
    """The same weights bit for bit, the same lines of metrics, and the same files."""
    assert differing(run.final, whole.final) == []
    mine, others = (
        [{key: value for key, value in row.items() if key not in CLOCK} for row in each.metrics()]
        for each in (run, whole)
    )
    assert mine == others
    assert run.metrics_path.read_text().count("\n") == len(others)  # and nothing else is in it
    assert sorted(path.name for path in run.path.iterdir()) == sorted(
        path.name for path in whole.path.iterdir()
    )
    assert run.status().state == "finished"
