"""A di4c command as a process of its own, which outlives whoever started it (standard library only)."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from di4c_cli.runs import RunDirectory

LAUNCHER = "DI4C_LAUNCHER"
"""Names, in the environment, the process without which this one is to stop."""
_CLOCKS = 60.0  # seconds by which a file server's clock may be behind


def place() -> tuple[int, int]:
    """Which of how many processes of one command this is, as torchrun tells them; (0, 1) without it."""
    several = int(os.environ.get("WORLD_SIZE", 1))
    return (int(os.environ.get("RANK", 0)), several) if several > 1 else (0, 1)


def stop_with_launcher() -> None:
    """From now on this process stops, as after SIGTERM, where the one that started it for a part is gone.

    That one may have been killed, with no chance to tell; a run that nobody waits for would keep its lock.
    """
    launcher = os.environ.pop(LAUNCHER, None)  # what this process starts is not the launcher's
    if launcher is not None:
        threading.Thread(target=_follow, args=(int(launcher),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def command(arguments: list[str]) -> list[str]:
    """The whole command line of `di4c ARGUMENTS`."""
    return [sys.executable, "-m", "di4c_cli", *arguments]


@dataclass(frozen=True)
class Launched:
    """A process that was started, and what it tells."""

    process: "subprocess.Popen[bytes]"
    root: Path | None
    """Where its run will be; None for the usual root."""
    started: float
    _complaints: IO[bytes]

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self.process.poll()

    def complaint(self) -> str:
        """All that it has written to stderr so far."""
        descriptor = self._complaints.fileno()
        # Not by seeking: the process writes at the same file position.
        told = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        return told.decode("utf-8", errors="replace")

    def run(self) -> RunDirectory | None:
        """The run that it trains, if that can be seen already. Only runs written since the start are read."""
        try:
            found = RunDirectory.find_all(self.root)
        except OSError:  # a run is being deleted; the next look will see
            return None
        for run in reversed(found):
            if run.updated < self.started - _CLOCKS:
                return None
            status = run.status()
            if status.pid == self.process.pid and status.host in ("", socket.gethostname()):
                return run
        return None


def start(command: list[str], root: Path | None = None) -> Launched:
    """Start a command in a session of its own: a closed terminal and its Ctrl-C are not for it.

    root: where it finds and makes runs; None leaves that to the environment.
    """
    complaints = tempfile.TemporaryFile()  # noqa: SIM115, it stays open for who reads it later
    started = time.time()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        env=None if root is None else os.environ | {"DI4C_RUNS": str(root)},
        start_new_session=True,
    )
    # Waited for at once: a dead process that nobody waits for passes for a living one.
    threading.Thread(target=process.wait, daemon=True).start()
    return Launched(process, root, started, complaints)
