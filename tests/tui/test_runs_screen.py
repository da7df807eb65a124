"""The list of runs: what it tells, filter, marks, and what becomes of runs that come, change and go."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from canned_run import make_run, training_row
from driving import drive, press, refresh, told
from textual.pilot import Pilot

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.screens.compare import CompareScreen
from di4c_cli.tui.screens.run import RunScreen
from di4c_cli.tui.screens.runs import age
from di4c_cli.tui.settings import Settings


def listed(root: Path) -> MonitorApp:
    """The monitor on its list, not on the newest run."""
    app = MonitorApp(root, plain=True, settings=Settings())
    return app


async def to_list(app: MonitorApp, pilot: Pilot[None]) -> str:
    if isinstance(app.screen, RunScreen):
        await pilot.press("escape")
    return await settle(app, pilot)


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if name in line)


def put_status(run: RunDirectory, **changes: object) -> None:
    status = run.status()
    for name, value in changes.items():
        setattr(status, name, value)
    run.write_status(status)


def test_every_state_step_figure_and_age_is_told(tmp_path: Path) -> None:
    runs = {
        state: make_run(tmp_path, recipe=state, state=state, step=step, previews=())
        for state, step in (("running", 600), ("finished", 1000), ("interrupted", 300), ("failed", 20))
    }
    stale = make_run(tmp_path, recipe="quiet", step=100, previews=())
    text = (stale.path / "status.json").read_text()
    heartbeat = stale.status().heartbeat
    (stale.path / "status.json").write_text(text.replace(str(heartbeat), str(heartbeat - 7200)))
    dead = make_run(tmp_path, recipe="dead", step=100, previews=())
    put_status(dead, pid=2**22 + 1, host=socket.gethostname())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = await to_list(app, pilot)
        for state, run in runs.items():
            line = line_of(text, run.name)
            step = run.status().step
            last = training_row(step, 1000, "student")
            for piece in (
                f"● {state}",
                f"{step:,}/1,000",
                f"{step / 10:.0f}%",
                figure(last["loss"]),
                "student",
                "now",
            ):
                assert piece in line
            assert f"{figure(last['samples_per_s'])}/s" in line
        assert "● stale" in line_of(text, stale.name)
        assert "2 h" in line_of(text, stale.name)
        assert "● stale" in line_of(text, dead.name)
        ends = {line.index("/s  ") for line in text.splitlines() if "/s  " in line}
        assert len(ends) == 1  # numbers end where their column ends

    drive(listed(tmp_path), act)


def test_a_run_becomes_stale_while_it_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "● running" in await to_list(app, pilot)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 3600)
        assert "● stale" in await refresh(app, pilot)

    drive(listed(tmp_path), act)


def test_the_filter_takes_words_in_any_order(tmp_path: Path) -> None:
    for recipe in ("digits", "mnist", "toy"):
        make_run(tmp_path, recipe=recipe, role="teacher", state="finished", previews=())
        make_run(tmp_path, recipe=recipe, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        text = await press(app, pilot, "slash", *"teacher mnist")
        assert "1 of 6 runs" in text
        assert "mnist/teacher-1" in text
        assert "mnist/student-1" not in text
        await press(app, pilot, "enter")  # kept
        assert "1 of 6 runs" in screen_text(app)
        make_run(tmp_path, recipe="mnist", role="teacher", previews=())
        assert "2 of 7 runs" in await refresh(app, pilot)
        text = await press(app, pilot, "escape")
        assert text.splitlines()[0].strip().startswith("7 runs")
        assert "0 of 7 runs" in await press(app, pilot, "slash", *"nothing of that sort")
        await press(app, pilot, "escape", "enter")
        assert isinstance(app.screen, RunScreen)

    drive(listed(tmp_path), act)


def test_the_cursor_stays_on_its_run_through_filter_and_news(tmp_path: Path) -> None:
    for recipe in ("aa", "bb", "cc", "bd"):
        make_run(tmp_path, recipe=recipe, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        names = [line for line in screen_text(app).splitlines() if "student-1" in line]
        at = next(index for index, line in enumerate(names) if "bb/" in line)
        await press(app, pilot, *["down"] * at)
        await press(app, pilot, "slash", "b", "enter")
        make_run(tmp_path, recipe="be", previews=())
        await refresh(app, pilot)
        assert "bb/student-1" in (await press(app, pilot, "enter")).splitlines()[0]

    drive(listed(tmp_path), act)


def test_marked_runs_are_compared(tmp_path: Path) -> None:
    for recipe in ("digits", "mnist", "toy"):
        make_run(tmp_path, recipe=recipe, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        await press(app, pilot, "space", "c")
        assert "two runs or more" in told(app)
        assert "2 marked" in await press(app, pilot, "space")
        assert "1 marked" in await press(app, pilot, "up", "up", "up", "space")
        assert "3 marked" in await press(app, pilot, "up", "space", "down", "space")
        await press(app, pilot, "c")
        assert isinstance(app.screen, CompareScreen)
        assert len(app.screen.runs) == 3
        await press(app, pilot, "escape")
        assert "c compares them" not in await press(app, pilot, "escape")

    drive(listed(tmp_path), act)


def test_deleted_runs_leave_the_list_and_the_comparison(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, recipe=recipe, previews=()) for recipe in ("digits", "mnist", "toy")]

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        await press(app, pilot, "space", "space", "space")
        shutil.rmtree(runs[1].path)
        text = await refresh(app, pilot)
        assert "mnist" not in text
        await press(app, pilot, "c")
        assert {run.name for run in app.screen.runs} == {"digits/student-1", "toy/student-1"}
        shutil.rmtree(tmp_path / "digits")
        assert "deleted" in await refresh(app, pilot)

    drive(listed(tmp_path), act)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_runs_that_may_not_be_read_do_no_harm(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    (run.path / "metrics.jsonl").chmod(0)
    (run.path / "status.json").chmod(0)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "student-1" in await to_list(app, pilot)

    drive(listed(tmp_path), act)


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (60, 12)])
def test_any_size_lists(tmp_path: Path, size: tuple[int, int]) -> None:
    make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        await press(app, pilot, "slash", "d", "escape", "space", "c")
        lines = screen_text(app).splitlines()
        assert len(lines) <= size[1]
        assert size != (20, 5) or any("digits" in line for line in lines)

    drive(listed(tmp_path), act, size)


def test_ages_are_short() -> None:
    now = time.time()
    assert [age(moment) for moment in (None, now + 5, now - 30, now - 90, now - 7200, now - 200_000)] == [
        "–", "now", "now", "2 min", "2 h", "2 d",
    ]  # fmt: skip
