"""The program as a user runs it: command line in, exit code, stdout, stderr and files out.

`Program.cold` is `python -m di4c_cli` as anybody would start it. Calling a `Program` does the same in a fork
of a process that has imported torch already (`warm.py`): a hundred commands do not cost a hundred imports.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

WARM = Path(__file__).with_name("warm.py")
NOWHERE = "http://127.0.0.1:9"  # no network: the discard port refuses at once

TINY = [
    *("network.width=16", "student.num_latents=4", "train.steps=40", "train.batch_size=8"),
    *("train.log_every=20", "preview.every=0", "preview.num=4", "eval.num=50"),
]
"""A distillation of a second."""
TINY_TEACHER = [
    "network.width=16",
    "teacher.train.steps=40",
    "teacher.train.batch_size=16",
    "preview.every=0",
]


def hear_signals() -> None:
    """A shell's background job ignores SIGINT, one under nohup SIGHUP, and so would all that it starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


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
        """The lines on stderr; a traceback is never among them."""
        assert "Traceback" not in self.err, self.err
        return self.err.splitlines()


@dataclass(frozen=True)
class Program:
    """The program in a working directory, with its runs in `runs`, by default a folder of that directory."""

    home: Path
    root: Path | None = None

    @property
    def runs(self) -> Path:
        return self.root or self.home / "runs"

    def __call__(self, *args: object, prelude: str = "", **env: str) -> Outcome:
        """Run a command line to its end, warm; `prelude` is Python that runs first."""
        return _warm().run([str(arg) for arg in args], self.home, self.environment(**env), prelude)

    def ok(self, *args: object, **env: str) -> Outcome:
        """The same for a command that must succeed."""
        outcome = self(*args, **env)
        assert outcome.code == 0, outcome.err + outcome.out
        return outcome

    @contextmanager
    def started(self, *args: object, by: Sequence[str] = (), **env: str) -> Iterator["subprocess.Popen[str]"]:
        """`python -m di4c_cli ...` as a process to be watched and stopped; it does not outlive the block.

        `by` names a module that starts it, and its options.
        """
        with subprocess.Popen(
            [sys.executable, *by, "-m", "di4c_cli", *(str(arg) for arg in args)],
            cwd=self.home,
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_signals,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def cold(self, *args: object, **env: str) -> Outcome:
        """`python -m di4c_cli ...` to its end."""
        with self.started(*args, **env) as process:
            out, err = process.communicate(timeout=240)
        return Outcome(process.returncode, out, err)

    def files(self) -> dict[Path, bytes | None]:
        """Everything below the working directory, with its content (None for folders)."""
        return {path: path.read_bytes() if path.is_file() else None for path in self.home.rglob("*")}

    def environment(self, **more: str) -> dict[str, str]:
        """One that knows nothing of the machine's own runs, data, GPU, network and terminal."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("DI4C_")}
        fixed = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TERM": "dumb"}
        fixed |= {"http_proxy": NOWHERE, "https_proxy": NOWHERE}
        places = {"DI4C_RUNS": str(self.runs), "XDG_STATE_HOME": str(self.home / "state")}
        return own | fixed | places | more


class Warm:
    """A process that has the imports behind it and forks for each command."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [sys.executable, str(WARM)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, args: list[str], cwd: Path, env: dict[str, str], prelude: str) -> Outcome:
        out, err = (Path(self.folder.name) / name for name in ("out", "err"))
        request = {"args": args, "cwd": str(cwd), "env": env, "prelude": prelude}
        print(json.dumps(request | {"out": str(out), "err": str(err)}), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        return Outcome(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()


@cache
def _warm() -> Warm:
    warm = Warm()
    atexit.register(warm.close)
    return warm
