"""The program as a user runs it: command line in, exit code, stdout, stderr and files out.

`cold` starts `python -m di4c_cli` as anybody would. `Warm` does the same from a process that has imported torch
already and forks for each command, so that a hundred commands do not cost a hundred imports.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

WARM = Path(__file__).with_name("warm.py")


@dataclass(frozen=True)
class Outcome:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def complaint(self) -> list[str]:
        """The lines on stderr; a traceback is never one of them."""
        assert "Traceback" not in self.err + self.out, self.err
        return self.err.splitlines()


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment that knows nothing of the machine's own runs, data and network."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("DI4C_") and k != "TERM"}
    nowhere = "http://127.0.0.1:9"  # the discard port: refused at once
    return keep | {
        "OMP_NUM_THREADS": "1",
        "TERM": "dumb",
        "DI4C_RUNS": str(home / "runs"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        **more,
    }


@dataclass(frozen=True)
class Program:
    """The program in a home of its own: the working directory, with its runs in `runs/`."""

    home: Path

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    def __call__(self, *args: object, **env: str) -> Outcome:
        """Run a command line to its end in a warm process."""
        return _warm().run([str(arg) for arg in args], self.home, environment(self.home, **env))

    def ok(self, *args: object, **env: str) -> Outcome:
        """The same for a command that must succeed."""
        outcome = self(*args, **env)
        assert outcome.code == 0, outcome.err + outcome.out
        return outcome

    def start(self, *args: object, **env: str) -> "subprocess.Popen[str]":
        """`python -m di4c_cli ...` as a process of its own, to be watched and stopped."""
        return subprocess.Popen(
            [sys.executable, "-m", "di4c_cli", *(str(arg) for arg in args)],
            cwd=self.home,
            env=environment(self.home, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cold(self, *args: object, **env: str) -> Outcome:
        """`python -m di4c_cli ...` to its end."""
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=240)
        return Outcome(process.returncode, out, err)

    def files(self) -> set[Path]:
        """Everything below the home."""
        return {path.relative_to(self.home) for path in self.home.rglob("*")}


class Warm:
    """A process that has the imports behind it and forks for each command."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [sys.executable, str(WARM)],
            env=environment(Path(self.folder.name)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, args: list[str], cwd: Path, env: dict[str, str]) -> Outcome:
        out, err = (Path(self.folder.name) / name for name in ("out", "err"))
        request = {"args": args, "cwd": str(cwd), "env": env, "out": str(out), "err": str(err)}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        return Outcome(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


@cache
def _warm() -> Warm:
    warm = Warm()
    atexit.register(warm.close)
    return warm
