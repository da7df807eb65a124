"""A command as a process of its own: what it is cut off from, what it tells, and which run is its."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from di4c_cli import launch
from di4c_cli.launch import Launched
from di4c_cli.runs import RunDirectory, Status

SLEEPS = "import time; time.sleep(60)"
TRAINS = """
import os, socket, time
from di4c_cli.runs import RunDirectory, Status
status = Status(role="student", pid=os.getpid(), host=socket.gethostname())
RunDirectory.create("toy", "student").write_status(status)
time.sleep(60)
"""
SAYS_TWICE = """
import sys, time
from pathlib import Path
print("one", file=sys.stderr, flush=True)
while not Path(sys.argv[1]).exists(): time.sleep(0.01)
print("two", file=sys.stderr)
sys.exit(3)
"""

Start = Callable[..., Launched]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python code; it does not outlive the test."""
    started: list[Launched] = []

    def start(code: str, *arguments: object, root: Path | None = None) -> Launched:
        started.append(launch.start([sys.executable, "-c", code, *map(str, arguments)], root))
        return started[-1]

    yield start
    for launched in started:
        launched.process.kill()
        launched.process.wait()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def write_run(root: Path, **status: object) -> RunDirectory:
    run = RunDirectory.create("toy", "student", root=root)
    run.write_status(Status(role="student", **status))
    return run


def test_the_program_says_what_is_wrong_with_its_arguments() -> None:
    launched = launch.start(launch.command(["distil"]))
    until(lambda: launched.poll() is not None)
    assert launched.poll() == 2
    assert launched.complaint().startswith("distil: no such command")
    assert launched.run() is None


def test_it_has_a_session_and_no_terminal(start: Start) -> None:
    launched = start("import os, sys; sys.exit(os.getsid(0) != os.getpid() or sys.stdin.read() != '')")
    until(lambda: launched.poll() is not None)
    assert launched.poll() == 0


def test_what_it_says_can_be_read_while_it_speaks(start: Start, tmp_path: Path) -> None:
    launched = start(SAYS_TWICE, tmp_path / "go")
    until(launched.complaint)
    assert launched.complaint() == "one\n"
    assert launched.poll() is None
    (tmp_path / "go").touch()
    until(lambda: launched.poll() is not None)
    assert (launched.poll(), launched.complaint()) == (3, "one\ntwo\n")


def test_a_dead_one_does_not_pass_for_alive(start: Start) -> None:
    """A run is taken for alive as long as its pid is, so nobody's waiting may be what frees it."""
    pid = start("").process.pid

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(gone)


def test_its_run_is_found_where_it_was_told_to_be(start: Start, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    write_run(root, pid=os.getpid())
    launched = start(TRAINS, root=root)
    until(launched.run)
    assert launched.run() == RunDirectory(root / "toy" / "student-2")


def test_runs_of_others_are_not_its_own(start: Start, tmp_path: Path) -> None:
    launched = start(SLEEPS, root=tmp_path)
    assert launched.run() is None  # there is no root yet
    write_run(tmp_path, pid=launched.process.pid, host="another host")
    of_before = write_run(tmp_path, pid=launched.process.pid)
    an_hour_ago = time.time() - 3600  # the number of an ended process comes again
    os.utime(of_before.path / "status.json", (an_hour_ago, an_hour_ago))
    assert launched.run() is None
    own = write_run(tmp_path, pid=launched.process.pid)
    assert launched.run() == own
