"""`--nproc N`: the same command line once more as N processes, by way of torch.distributed.run."""

import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

import psutil
import typer

from di4c_cli import launch
from di4c_cli.cli import console
from di4c_cli.errors import RunError, UsageError


def wanted(nproc: int) -> bool:
    """Whether this process is to start others, not one of those."""
    return nproc > 1 and launch.place() == (0, 1)


def run(nproc: int, device: str) -> None:
    """Run this command line as `nproc` processes of this machine, to their end.

    Signals that stop a run go on to them, so that it saves; a second Ctrl-C kills them. Where this process
    is killed, they stop as after SIGTERM.

    Raises:
        typer.Exit: with the exit code of the process that failed first; of one that was killed, 128 + signal.
        UsageError: a device for one process.
    """
    if device == "mps" or ":" in device:
        raise UsageError(f"--device {device}: is one for several processes", "use auto, cpu or cuda")
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as run_together

    from di4c_cli.session import stopping

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # our processes tell what is wrong
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[launch.LAUNCHER] = str(os.getpid())
    forward = _Forward()
    before = {number: signal.signal(number, forward) for number in stopping()}
    # Signals would make the agent give the processes 30 s, and then kill them in the middle of saving.
    options = ["--standalone", f"--nproc-per-node={nproc}", "--signals-to-handle=none"]
    arguments = parse_args([*options, "-m", "di4c_cli"])
    arguments.training_script_args = sys.argv[1:]  # not parsed: it would find options of its own there
    try:
        run_together(arguments)
    except ChildFailedError as error:
        if forward.killed:
            raise typer.Exit(128 + signal.SIGINT) from None
        code, rank = _cause({rank: failure.exitcode for rank, failure in error.failures.items()})
        if code > 0:
            raise typer.Exit(code) from None
        name = signal.Signals(-code).name
        console.error(RunError(f"process {rank} was killed by {name}", "a run goes on with --resume"))
        raise typer.Exit(128 - code) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cause(codes: dict[int, int]) -> tuple[int, int]:
    """The exit code (-N for signal N) that ended the others, and whose it is.

    A process that was killed comes before those that miss it, and they before those told to end.
    """
    order = {-signal.SIGTERM: 2}
    return min((order.get(code, int(code > 0)), rank, code) for rank, code in codes.items())[:0:-1]


class _Forward:
    """Hands signals on to the processes that were started."""

    def __init__(self) -> None:
        self.once = self.killed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        children = psutil.Process().children()
        if not children:  # none yet
            raise SystemExit(128 + number)
        self.killed = self.once and number == signal.SIGINT
        for child in children:
            with suppress(psutil.NoSuchProcess):  # it has just ended: a closed terminal tells all of them
                child.send_signal(signal.SIGKILL if self.killed else number)
        self.once = True
