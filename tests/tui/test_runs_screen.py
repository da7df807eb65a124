"""The list of runs: what it tells, filter, marks, and what becomes of runs that come, change and go."""

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from canned_run import make_run, training_row
from driving import drive, press, refresh, told
from rich.cells import cell_len
from textual.pilot import Pilot

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.screens.compare import CompareScreen
from di4c_cli.tui.screens.run import RunScreen
from di4c_cli.tui.settings import Settings
from di4c_cli.tui.widgets.filter_line import FilterLine
from di4c_cli.tui.widgets.runs_table import RunsTable


def listed(root: Path) -> MonitorApp:
    """The monitor without any run named: it opens the newest, and its list lies below."""
    return MonitorApp(root, plain=True, settings=Settings())


async def to_list(app: MonitorApp, pilot: Pilot[None]) -> str:
    if isinstance(app.screen, RunScreen):
        await pilot.press("escape")
    return await settle(app, pilot)


async def narrow(app: MonitorApp, pilot: Pilot[None], words: str) -> str:
    """Filter the list, without the time that typing takes."""
    await pilot.press("slash")
    app.screen.query_one(FilterLine).value = words
    return await settle(app, pilot)


def under_cursor(app: MonitorApp) -> str:
    """The name of the run that the cursor is on."""
    return RunDirectory(Path(app.screen.query_one(RunsTable).under_cursor)).name


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
        assert "3 of 6 runs" in await press(app, pilot, "slash", *"teach")
        text = await narrow(app, pilot, " Teacher  mnist")
        assert "1 of 6 runs" in text
        assert "mnist/teacher-1" in text
        assert "mnist/student-1" not in text
        await press(app, pilot, "enter")  # kept
        assert "1 of 6 runs" in screen_text(app)
        make_run(tmp_path, recipe="mnist", role="teacher", previews=())
        assert "2 of 7 runs" in await refresh(app, pilot)
        text = await press(app, pilot, "escape")
        assert text.splitlines()[0].strip().startswith("7 runs")
        assert "0 of 7 runs" in await narrow(app, pilot, "nothing of that sort")
        await press(app, pilot, "enter", "enter", "space", "c", "K", "down", "end")  # on no run at all
        await press(app, pilot, "escape", "enter")
        assert isinstance(app.screen, RunScreen)

    drive(listed(tmp_path), act)


def test_numbers_end_where_their_column_ends(tmp_path: Path) -> None:
    for recipe, step, steps in (("数字", 1, 10), ("a-much-longer-name", 123_456, 1_000_000), ("b", 7, 7)):
        make_run(tmp_path, recipe=recipe, step=step, steps=steps, rows=1, previews=())
    (tmp_path / "b" / "student-1" / "metrics.jsonl").write_text("")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        lines = (await to_list(app, pilot)).splitlines()[1:5]
        assert "123,456/1,000,000" in "".join(lines)
        for heading in ("step", "done", "loss", "speed", "age"):
            end = lines[0].index(f" {heading}") + 1 + len(heading)
            for line in lines[1:]:
                cells = "".join(char + " " * (cell_len(char) - 1) for char in line) + " "
                assert cells[end - 1] != " "
                assert cells[end] == " "

    drive(listed(tmp_path), act, (140, 20))


def test_the_cursor_stays_on_its_run_through_filter_and_news(tmp_path: Path) -> None:
    for recipe in ("aa", "bb", "cc", "bd"):  # listed from the last to the first
        make_run(tmp_path, recipe=recipe, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        await press(app, pilot, "down", "down")
        assert under_cursor(app) == "bb/student-1"
        await narrow(app, pilot, "b")
        assert under_cursor(app) == "bb/student-1"
        make_run(tmp_path, recipe="be", previews=())
        await refresh(app, pilot)
        assert under_cursor(app) == "bb/student-1"
        await narrow(app, pilot, "bd")  # it is hidden
        assert under_cursor(app) == "bd/student-1"
        await press(app, pilot, "escape")  # and comes back
        assert under_cursor(app) == "bb/student-1"
        shutil.rmtree(tmp_path / "bb")
        await refresh(app, pilot)
        assert under_cursor(app) == "aa/student-1"  # the next one that is left
        assert "aa/student-1" in (await press(app, pilot, "enter")).splitlines()[0]

    drive(listed(tmp_path), act)


def test_a_long_list_scrolls_and_stays_where_it_was_scrolled_to(tmp_path: Path) -> None:
    for number in range(40):
        make_run(tmp_path, recipe=f"r{number:02}", rows=1, previews=(), state="finished")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        def top(text: str) -> str:
            return text.splitlines()[2].split()[0]

        text = await to_list(app, pilot)
        assert top(text) == "r39/student-1"
        assert top(await press(app, pilot, "end")) == "r25/student-1"
        assert under_cursor(app) == "r00/student-1"
        assert top(await press(app, pilot, "pageup", "up")) == "r26/student-1"
        text = await press(app, pilot, *["down"] * 5)
        assert top(text) == "r26/student-1"
        make_run(tmp_path, recipe="new", rows=1, previews=())
        assert top(await refresh(app, pilot)) == "r26/student-1"
        assert top(await press(app, pilot, "home")) == "new/student-1"
        assert "r00/student-1" in await press(app, pilot, *["pagedown"] * 2)
        await pilot.resize_terminal(60, 8)
        text = await settle(app, pilot)
        assert under_cursor(app) in text
        assert "finished" in text
        assert "done" in await press(app, pilot, "right", "right")  # sideways
        assert "done" in await refresh(app, pilot)

    drive(listed(tmp_path), act, (120, 29))


def test_a_click_opens_a_run(tmp_path: Path) -> None:
    for recipe in ("digits", "mnist", "toy"):
        make_run(tmp_path, recipe=recipe, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        for y in (0, 9):  # on the headings and below the last run
            await pilot.click(RunsTable, offset=(10, y))
        assert not isinstance(app.screen, RunScreen)
        await pilot.click(RunsTable, offset=(10, 2))
        assert "mnist/student-1" in (await settle(app, pilot)).splitlines()[0]

    drive(listed(tmp_path), act)


def test_marked_runs_are_compared(tmp_path: Path) -> None:
    for recipe in ("digits", "mnist", "toy"):  # listed from the last to the first
        make_run(tmp_path, recipe=recipe, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await to_list(app, pilot)
        await press(app, pilot, "space", "c")
        assert "two runs or more" in told(app)
        text = await press(app, pilot, "down", "space")
        assert "2 marked" in text
        assert [line_of(text, name).split()[0] for name in ("toy/", "mnist/", "digits/")] == [
            "■", "mnist/student-1", "■",
        ]  # fmt: skip
        assert "1 marked" in await press(app, pilot, "space")  # at the end the cursor stays
        await press(app, pilot, "space")
        await narrow(app, pilot, "mnist")  # marks outlive a filter, and a hidden run is compared as well
        await press(app, pilot, "enter", "space", "c")
        assert isinstance(app.screen, CompareScreen)
        assert [run.name for run in app.screen.runs] == [
            "toy/student-1", "digits/student-1", "mnist/student-1",
        ]  # fmt: skip
        await press(app, pilot, "escape")
        assert "3 marked" in await press(app, pilot, "escape")  # first the filter goes, then the marks
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
        assert "2 marked" in text
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
