"""The process around a run: signals, identity, and the state that status.json must end in."""

import errno
import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from di4c_cli.errors import Interrupted, RunError, UsageError
from di4c_cli.runs import RunDirectory, Status

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
"""What a disk answers that is full or failing, and no place that is wrong."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


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
    folder = os.open(run.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            status = run.status()
            raise UsageError(
                f"{run.path}: is still running (process {status.pid} on {status.host})",
                "stop it first",
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(folder)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int | None]]:
    """Gives a function that tells of the first Ctrl-C, SIGTERM or SIGUSR1; a second Ctrl-C stops at once.

    SIGUSR1 is what a scheduler sends some time before the end (`sbatch --signal=USR1@120`): it too means to
    save and stop, so that the job can be queued anew and resumed.
    """
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, remember) for number in STOPPING}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        if isinstance(error, OSError) and error.errno in DISK:
            hint = f"see to the disk, then continue with --resume {run.path}"
            raise RunError(f"{run.path}: {error.strerror}", hint) from error
        raise
    status.state, status.eta = "finished", 0.0
    run.write_status(status)
    run.log("finished")


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """What is refused within becomes one line: full or failing disks fail the run, else the place is bad."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in DISK:
            raise RunError(f"{place}: cannot be written: {reason}", "make room and try again") from error
        raise UsageError(f"{place}: cannot be written: {reason}", "choose another place") from error
