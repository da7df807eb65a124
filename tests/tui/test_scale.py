"""Long histories, many runs, and what it costs to watch."""

import asyncio
import json
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from canned_run import make_run, training_row
from driving import drive, press, refresh, watch
from textual.pilot import Pilot

from di4c_cli.runs import RunDirectory
from di4c_cli.tui import lines
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.screens.runs import RunsScreen
from di4c_cli.tui.settings import Settings
from di4c_cli.tui.tail import RunsTail

MILLION = 1_000_000
TRIES = 4  # of what must be quick, on machines that do other things as well


def write_history(run: RunDirectory, rows: int) -> None:
    """`rows` rows at steps 1, 2, 3, ...; the figures of a thousand of them come again and again."""
    kept = [training_row(step, 1000, "student") for step in range(1, 1001)]
    ends = [json.dumps(row).split(", ", 1)[1] for row in kept]
    with open(run.metrics_path, "w") as file:
        for start in range(0, rows, 1000):
            file.write(
                "".join(f'{{"step": {start + n}, {end}\n' for n, end in enumerate(ends[: rows - start], 1))
            )


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDirectory]:
    folder = tmp_path_factory.mktemp("long")
    run = make_run(folder, step=MILLION, steps=MILLION, rows=0, state="finished")
    write_history(run, MILLION)
    yield run
    shutil.rmtree(folder)


def test_a_million_lines_open_in_two_seconds_and_300_mb(long_run: RunDirectory) -> None:
    command = [sys.executable, "-m", "di4c_cli", "monitor", str(long_run.path), "--once"]
    seconds = []
    for _ in range(TRIES):
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "120"}
        )
        text = process.stdout.read()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds.append(time.monotonic() - began)
        assert process.returncode == 0
        assert usage.ru_maxrss < 300 * 1024
        assert "step 1,000,000" in text  # the whole range is there, and the newest figures
        assert f"loss {figure(training_row(1000, 1000, 'student')['loss'])}" in text
        if seconds[-1] < 2:
            return
    pytest.fail(f"took {seconds} seconds")


@pytest.mark.slow
def test_a_million_lines_are_read_behind_their_overview(long_run: RunDirectory) -> None:
    async def main() -> None:
        app = watch(long_run)
        began = time.monotonic()
        async with app.run_test(size=(120, 40)) as pilot:
            while "datapoint" not in screen_text(app):
                await pilot.pause(0.02)
            assert time.monotonic() - began < 2
            assert "reading " in screen_text(app)
            while "reading " in (text := screen_text(app)):
                await pilot.pause(0.2)
            history = app.screen.history
            assert (len(history.steps), history.last_step) == (MILLION, MILLION)
            assert history.curves["loss"].raw.values[999_999] == pytest.approx(
                training_row(1000, 1000, "student")["loss"], rel=1e-6
            )
            assert "step 1,000,000" in text
            await press(app, pilot, "s", "+", "y")

    asyncio.run(main())


def test_an_overview_is_shown_until_all_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONG", 2**18)
    monkeypatch.setattr(lines, "CHUNK", 2**15)
    run = make_run(tmp_path, step=4000, steps=4000, rows=0, previews=())
    write_history(run, 4000)
    rows = lines.overview(run.metrics_path)
    assert (rows[0]["step"], rows[-1]["step"]) == (1, 4000)
    assert [row["step"] for row in rows] != list(range(1, 4001))

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        history = app.screen.history
        assert list(history.steps) == list(range(1, 4001))
        assert app.screen._overview is None
        assert "reading" not in screen_text(app)
        run.append_metrics({"step": 4001, "loss": 9.25})
        assert "9.25" in await refresh(app, pilot)

    drive(watch(run), act)


# -- many runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3000 finished runs."""
    root = tmp_path_factory.mktemp("crowd")
    one = make_run(root, rows=5, previews=(), state="finished", step=1000)
    for number in range(2, 3001):
        folder = root / f"recipe-{number % 40}" / f"student-{number}"
        folder.mkdir(parents=True)
        for name in ("status.json", "metrics.jsonl"):
            shutil.copy(one.path / name, folder / name)
    return root


def test_thousands_of_runs_are_listed_filtered_and_cheap(crowd: Path) -> None:
    tail = RunsTail(crowd)
    tail.poll()
    began = time.process_time()
    (listed,) = tail.poll()
    assert len(listed.runs) == 3000
    assert time.process_time() - began < 0.5

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert isinstance(app.screen, RunsScreen)
        assert "3000 runs below" in screen_text(app)
        text = await press(app, pilot, "slash", *"recipe-7 finished", "enter")
        assert "75 of 3000 runs" in text
        await press(app, pilot, "end", "escape")
        began, used = time.monotonic(), time.process_time()
        await pilot.pause(3)
        assert time.process_time() - used < 0.2 * (time.monotonic() - began)

    app = MonitorApp(crowd, plain=True, settings=Settings())
    app.chosen = ()

    async def main() -> None:
        async with app.run_test(size=(120, 40)) as pilot:
            app.screen.open_first = False
            if not isinstance(app.screen, RunsScreen):
                await pilot.press("escape")
            while "3000 runs" not in screen_text(app):
                await pilot.pause(0.05)
            await settle(app, pilot)
            await act(app, pilot)

    asyncio.run(main())


# -- what it costs to watch --------------------------------------------------------------------


class Watched:
    """`di4c monitor` on a terminal of its own, and what it writes there."""

    def __init__(self, run: RunDirectory) -> None:
        self.process, self.terminal = self._start(run)
        self.moments: list[float] = []  # when it wrote something
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _start(run: RunDirectory) -> tuple["subprocess.Popen[bytes]", int]:
        import fcntl
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "di4c_cli", "monitor", str(run.path)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(theirs)
        return process, ours

    def _read(self) -> None:
        while self.process.poll() is None:
            if select.select([self.terminal], [], [], 0.2)[0]:
                try:
                    if os.read(self.terminal, 2**16):
                        self.moments.append(time.monotonic())
                except OSError:
                    return

    def press(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> int:
        """Leave it; its exit code."""
        try:
            self.press("q")
            return self.process.wait(20)
        finally:
            self.process.kill()
            os.close(self.terminal)


def frames(moments: list[float]) -> int:
    """Writes that belong together are one frame."""
    return sum(later - earlier > 0.03 for earlier, later in pairwise(moments))


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_watching_a_run_that_writes_20_lines_a_second(tmp_path: Path, seconds: int) -> None:
    run = make_run(tmp_path, step=600, steps=5000, rows=300)
    status = run.status()
    watched = Watched(run)
    try:
        began = time.monotonic()
        step, marks = 600, []
        while (passed := time.monotonic() - began) < seconds + 4:
            step += 1
            run.append_metrics(training_row(step, 5000, "student"))
            if step % 5 == 0:
                status.step, status.elapsed = step, passed
                run.write_status(status)
            if passed > 4 and not marks:  # it has started
                marks = [watched.cpu(), time.monotonic()]
                watched.moments.clear()
            time.sleep(max(0.0, began + (step - 600) * 0.05 - time.monotonic()))
        share = (watched.cpu() - marks[0]) / (time.monotonic() - marks[1])
        painted = frames(watched.moments) / (time.monotonic() - marks[1])
        maps = Path(f"/proc/{watched.process.pid}/maps").read_text()
        before = listing(run.path)
        watched.press("sy1122]3456+-0xp")
        time.sleep(1)
        assert listing(run.path) == before
    finally:
        code = watched.close()
    assert code == 0
    assert share < 0.05
    assert 0.2 < painted <= 4.2
    assert "torch" not in maps
    assert "numpy" not in maps
