"""The process around a run: signals, identity, and the state that status.json must end in."""

import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from di4c_cli.core import ranks
from di4c_cli.errors import Interrupted, RunError, UsageError
from di4c_cli.files import DISK
from di4c_cli.runs import RunDirectory, Status


def stopping() -> list[signal.Signals]:
    """Signals that stop a run. A closed terminal does (SIGHUP), unless that was to be ignored (`nohup`)."""
    always = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    return always if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [*always, signal.SIGHUP]


def process_identity() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


@contextmanager
def owned(run: RunDirectory) -> Iterator[None]:
    """Within, no other process trains this run.

    The lock is on the folder itself: it leaves no file behind, and goes with its process however that ends.
    Where a file system has no locks, status.json alone tells of a run that is alive.

    Raises:
        UsageError: another process has it.
    """
    folder = ranks.by_first(lambda: _locked(run))
    try:
        yield
    finally:
        if ranks.first():
            os.close(folder)


def _locked(run: RunDirectory) -> int:
    """The folder, opened."""
    folder = os.open(run.path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        status = run.status()
        raise UsageError(
            f"{run.path}: is still running (process {status.pid} on {status.host})", "stop it first"
        ) from None
    except OSError:
        pass
    return folder


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int | None]]:
    """Gives a function that tells of the first signal that stops a run; a second Ctrl-C stops at once.

    One that came too late for what is within still stops what goes on after it.

    SIGUSR1 is what a scheduler sends some time before the end (`sbatch --signal=USR1@120`): it too means to
    save and stop, so that the job can be queued anew and resumed.

    On several ranks a second one does nothing: there one Ctrl-C may arrive twice, from the terminal and from
    who started them.

    Raises:
        Interrupted: at the end, if one came.
    """
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT and ranks.size() == 1:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, remember) for number in stopping()}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise _stopped(received[0], "; the run had just finished")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within, work that has nothing to save, such as an evaluation, ends with the same exit codes.

    What trains within saves first: it takes the signals meanwhile.

    Raises:
        Interrupted: one came.
    """
    before = {number: signal.signal(number, _end) for number in stopping()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise _stopped(number)


def _stopped(number: int, when: str = "") -> Interrupted:
    return Interrupted(f"stopped by {signal.Signals(number).name}{when}", exit_code=128 + number)


class Followed(RunDirectory):
    """The run of the first rank, for the others: they know where it is, and write nothing."""

    def _leave_to_the_first(self, *content: object) -> None:
        """What they would write, the first rank writes."""

    write_status = write_recipe = write_resolved = append_metrics = log = _leave_to_the_first
    truncate_metrics = set_aside = _leave_to_the_first


@contextmanager
def recorded(run: RunDirectory, status: Status) -> Iterator[None]:
    """Whatever ends the block is what status.json says: finished, interrupted or failed."""
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
        status.state = "interrupted" if interrupted else "failed"
        status.message = str(error) or type(error).__name__
        with suppress(OSError):  # a full disk must not hide the error that is under way
            run.write_status(status)
            run.log(f"{status.state}: {status.message}")
        if isinstance(error, OSError) and not run.path.is_dir():
            raise RunError(f"{run.path}: the folder of the run is gone", "it was moved or removed") from error
        if isinstance(error, OSError) and error.errno in DISK:
            hint = f"see to the disk, then continue with --resume {run.path}"
            raise RunError(f"{run.path}: {error.strerror}", hint) from error
        raise
    status.state, status.eta = "finished", 0.0
    run.write_status(status)
    run.log("finished")
