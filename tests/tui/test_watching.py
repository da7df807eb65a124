"""What it costs to watch, on a real terminal, and that watching leaves no trace."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from canned_run import make_run, training_row
from terminal import Terminal, terminal

from di4c_cli.runs import RunDirectory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")

MOST_CPU, MOST_FRAMES = 0.05, 4.0  # of a core; a second
TRIES = 3  # of a measurement, on machines that do other things as well


@contextmanager
def training(run: RunDirectory, rows_per_second: float = 20) -> Iterator[None]:
    """A run that goes on: rows, and a heartbeat every fifth of them."""
    status, stop = run.status(), threading.Event()

    def train() -> None:
        began, first = time.monotonic(), status.step
        while not stop.wait(max(0.0, began + (status.step - first) / rows_per_second - time.monotonic())):
            status.step += 1
            run.append_metrics(training_row(status.step, status.steps, "student"))
            if status.step % 5 == 0:
                status.elapsed = time.monotonic() - began
                run.write_status(status)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def started(opened: Terminal, text: str = "effective components") -> Terminal:
    """It is up, and what starting costs lies behind it."""
    end = time.monotonic() + 30
    while not opened.shows(text):
        assert time.monotonic() < end, opened.output[-2000:]
        time.sleep(0.05)
    time.sleep(1)
    return opened


def measure(opened: Terminal, seconds: float) -> tuple[float, float]:
    """The share of a core that it takes, and how often it paints in a second."""
    painted, used, began = len(opened.frames), opened.cpu(), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return (opened.cpu() - used) / passed, (len(opened.frames) - painted) / passed


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in (folder, *folder.rglob("*")))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [8, 60])
def test_watching_20_rows_a_second_costs_little(tmp_path: Path, seconds: int) -> None:
    run = make_run(tmp_path, step=600, steps=5000, rows=300)
    with training(run), terminal("monitor", run.path) as opened:
        started(opened)
        for _ in range(TRIES):
            share, painted = measure(opened, seconds)
            assert 0.2 < painted <= MOST_FRAMES
            if share < MOST_CPU:
                break
        assert share < MOST_CPU
        loaded = opened.mapped()
        assert "torch" not in loaded
        assert "numpy" not in loaded


@pytest.mark.slow
def test_log_and_system_beside_the_charts_paint_no_more(tmp_path: Path) -> None:
    run = make_run(tmp_path, step=600, steps=5000, rows=300)
    with training(run), terminal("monitor", run.path) as opened:
        started(opened)
        for pane in "56":
            opened.press(pane)
            time.sleep(0.5)
            assert measure(opened, 2)[1] <= MOST_FRAMES + 0.5  # a window of two seconds may hold one more


@pytest.mark.slow
def test_where_nothing_happens_nothing_is_painted(tmp_path: Path) -> None:
    make_run(tmp_path, role="teacher", state="finished", step=1000)
    run = make_run(tmp_path, state="finished", step=1000)
    with terminal("monitor", "--root", tmp_path) as opened:
        started(opened)
        assert measure(opened, 1)[1] == 0
        opened.press("\x1b")
        started(opened, "2 runs below")
        assert measure(opened, 2.2)[1] == 0  # the list is looked at every second
        opened.press("/")  # not even a cursor blinks
        time.sleep(0.4)
        assert measure(opened, 1.2)[1] == 0
        run.append_metrics({"step": 1001, "loss": 0.125})
        started(opened, "0.125")


def test_nothing_is_written_into_a_run_whatever_is_pressed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", state="finished")
    (run.path / "resolved.json").write_text(json.dumps({"values": {"a": {"value": 1, "origin": "x"}}}))
    run.log("a line")
    before = listing(tmp_path / "runs")
    with terminal("monitor", run.path) as opened:
        started(opened)
        opened.press("sSyx+->0cmm[]{}2345/a\r\x1b6k1pph\x1bh\x1b")
        opened.press("\x1b\x1b  c/stu\r\x1b\r")
        for _ in range(60):  # a busy machine may still be at the keys before, and take q for one of a filter
            opened.press("q")
            try:
                assert opened.process.wait(1) == 0
                break
            except subprocess.TimeoutExpired:
                opened.press("\x1b")
                time.sleep(0.5)
    assert opened.process.returncode == 0
    assert listing(tmp_path / "runs") == before


@pytest.mark.parametrize("controlling", [True, False])
def test_it_ends_with_its_terminal(tmp_path: Path, controlling: bool) -> None:
    with terminal("monitor", make_run(tmp_path).path, controlling=controlling) as opened:
        started(opened)
        opened.hang_up()
        opened.process.wait(10)  # rather than read for ever what is no longer there
