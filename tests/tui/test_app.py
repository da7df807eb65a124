"""What holds on every screen: palette and help read the bindings; themes, panes, starting, stopping."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from canned_run import make_run
from driving import drive, press, refresh, told, watch
from textual.pilot import Pilot

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.screens.compare import CompareScreen
from di4c_cli.tui.screens.new_run import NewRunScreen
from di4c_cli.tui.screens.run import PANES, RunScreen
from di4c_cli.tui.screens.runs import RunsScreen
from di4c_cli.tui.settings import Settings


def commands(app: MonitorApp) -> dict[str, str]:
    return {command.title: command.help for command in app.get_system_commands(app.screen)}


def test_help_and_palette_know_every_key_of_every_screen(tmp_path: Path) -> None:
    run, other = make_run(tmp_path), make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for screen in (RunScreen(run, Settings()), CompareScreen((run, other), Settings(), app.colours)):
            await app.push_screen(screen)
            await settle(app, pilot)
            told = commands(app)
            text = await press(app, pilot, "h")
            for binding in (*type(screen).BINDINGS, *MonitorApp.BINDINGS):
                assert binding.description in text
                assert binding.description in told
            await press(app, pilot, "escape")

    drive(watch(run), act, (120, 50))


def test_a_command_of_the_palette_does_what_its_key_does(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+p")
        await pilot.pause(0.1)
        await pilot.press(*"Evaluation")
        await pilot.pause(0.5)
        await pilot.press("enter")
        assert "evaluation: none yet" in await settle(app, pilot)

    drive(watch(make_run(tmp_path)), act)


def test_panes_open_and_close_by_digits_and_mouse(tmp_path: Path) -> None:
    def panes(app: MonitorApp) -> list[str]:
        shown = [pane for pane in PANES[1:] if app.screen.query_one(f"#{pane}").display]
        shown = shown if app.screen.query_one("#side").display else []
        return [*["charts"] * app.screen.query_one("#charts").display, *shown]

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert panes(app) == ["charts", "samples"]
        for digit, pane in enumerate(PANES[1:], 2):
            await press(app, pilot, str(digit))
            assert panes(app) == (["charts", pane] if pane != "samples" else ["charts"])
        await press(app, pilot, "6")
        assert panes(app) == ["charts"]
        await press(app, pilot, "1")  # one side always stays
        assert panes(app) == ["charts"]
        await press(app, pilot, "4", "1")
        assert panes(app) == ["recipe"]
        await press(app, pilot, "4")
        assert panes(app) == ["charts"]
        await pilot.click("PaneBar", offset=(screen_text(app).splitlines()[2].index("5 log") + 1, 0))
        await settle(app, pilot)
        assert panes(app) == ["charts", "log"]

    drive(watch(make_run(tmp_path)), act)


@pytest.mark.parametrize("theme", ["textual-light", "nord"])
def test_any_theme_draws_every_pane(tmp_path: Path, theme: str) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        app.theme = theme
        for digit in "234561":
            await press(app, pilot, digit)
        assert "<svg" in app.export_screenshot()

    drive(watch(make_run(tmp_path), plain=False), act)


def test_a_run_is_started_from_inside_and_opened(tmp_path: Path) -> None:
    first = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "n")
        assert isinstance(app.screen, NewRunScreen)
        app.screen.dismiss(make_run(tmp_path))
        assert "digits/student-2" in await settle(app, pilot)
        assert isinstance(app.screen, RunScreen)

    drive(watch(first), act)


def test_a_run_is_stopped_after_a_question(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = make_run(tmp_path)
    status = run.status()
    status.pid, status.host = child.pid, socket.gethostname()
    run.write_status(status)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "K", "n")
        assert child.poll() is None
        await press(app, pilot, "K", "y")
        assert "told to stop" in told(app)
        assert child.wait(5) == -15
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RunsScreen)
        assert "cannot be stopped" in await press(app, pilot, "K")

    try:
        drive(watch(run), act)
    finally:
        child.kill()


def test_the_system_pane_watches_the_process_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    status = run.status()
    status.pid, status.host = os.getpid(), socket.gethostname()
    run.write_status(status)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "6")
        for _ in range(100):
            if "cores" in (text := await refresh(app, pilot)) and "threads" in text:
                break
        assert "threads" in text

    drive(watch(run), act)


def test_several_runs_on_the_command_line_are_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path), make_run(tmp_path)]

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert isinstance(app.screen, CompareScreen)
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RunsScreen)

    drive(watch(*runs), act)


def test_a_run_that_is_to_come_may_be_compared(tmp_path: Path) -> None:
    here, later = make_run(tmp_path), RunDirectory(tmp_path / "digits" / "student-2")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "waiting" in screen_text(app)
        make_run(tmp_path)
        assert "waiting" not in await refresh(app, pilot)

    drive(watch(here, later), act)
