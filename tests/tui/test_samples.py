"""The samples pane: what the two sliders choose, what is drawn on request, and how pictures are shown."""

import os
from pathlib import Path

import pytest
from canned_run import blob, make_run, write_previews, write_texts
from driving import drive, press, refresh, told, watch
from PIL import Image
from textual.pilot import Pilot

from di4c_cli.runs import RunDirectory
from di4c_cli.tui import opening
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.drawing import DrawError, DrawRequest
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.pictures import Preview
from di4c_cli.tui.screens import run as run_screen
from di4c_cli.tui.widgets.pixel_wall import PictureCell, PixelWall
from di4c_cli.tui.widgets.sample_pane import SamplePane
from di4c_cli.tui.widgets.slider import Slider


def roles(text: str, steps: int) -> list[str]:
    """Models that are shown at a number of sampling steps."""
    return [role for role in ("teacher", "student", "hybrid") if f"{role} · {steps} step" in text]


def test_the_sampling_slider_leaves_teacher_beside_student_at_equal_steps(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert [roles(screen_text(app), k) for k in (1, 2, 4)] == [["teacher", "student"]] * 3
        text = await press(app, pilot, "}", "}")
        assert [roles(text, k) for k in (1, 2, 4)] == [[], ["teacher", "student"], []]
        text = await press(app, pilot, "[")  # an earlier training step, at the same sampling steps
        assert "previews at step 300" in text
        assert [roles(text, k) for k in (1, 2, 4)] == [[], ["teacher", "student"], []]
        text = await press(app, pilot, "{", "{", "{")
        assert roles(text, 1) == ["teacher", "student"]

    drive(watch(run), act)


def test_sliders_by_keys_and_mouse(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=(100, 200, 300, 400, 600))

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        training, sampling = app.screen.query(Slider)
        training.focus()
        assert "previews at step 100" in await press(app, pilot, "home")
        assert "previews at step 200" in await press(app, pilot, "right")
        assert "previews at step 600" in await press(app, pilot, "end", "right")
        start, length = training._rail
        await pilot.click(training, offset=(start + length // 2, 0))
        assert "previews at step 300" in await settle(app, pilot)
        await pilot.click(training, offset=(0, 0))  # on its label
        assert "previews at step 300" in await settle(app, pilot)
        start, length = sampling._rail
        await pilot.click(sampling, offset=(start + length - 1, 0))
        assert roles(await settle(app, pilot), 4) == ["teacher", "student"]
        assert roles(screen_text(app), 1) == []

    drive(watch(run), act)


def test_an_earlier_step_stays_while_the_run_goes_on_and_the_last_one_follows(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "[")
        write_previews(run, 700, [blob(0)])
        assert "previews at step 300" in await refresh(app, pilot)
        await press(app, pilot, "]", "]")
        write_previews(run, 800, [blob(0)])
        assert "previews at step 800" in await refresh(app, pilot)

    drive(watch(run), act)


def test_molecules_are_strings(tmp_path: Path) -> None:
    run = make_run(tmp_path, recipe="qm9", previews=())
    write_texts(run, 500, ["C1CC1O", "CC(=O)N", "[C@@H](F)(Cl)Br"])

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = await press(app, pilot, "1")  # the whole width
        for molecule in ("- C1CC1O", "- CC(=O)N", "- [C@@H](F)(Cl)Br"):
            assert molecule in text

    drive(watch(run), act)


# -- drawn on request --------------------------------------------------------------------------


def draws(monkeypatch: pytest.MonkeyPatch, *, complaint: str = "") -> list[DrawRequest]:
    """Put something quick in the place of the process that draws; what it was asked is told."""
    asked: list[DrawRequest] = []

    async def draw(run: RunDirectory, request: DrawRequest, folder: Path) -> tuple[Preview, ...]:
        asked.append(request)
        assert run.path not in folder.parents
        if complaint:
            raise DrawError(complaint)
        tile = Image.new("RGB", (8, 8), (255, 255, 255))
        return tuple(Preview(role, request.steps, tiles=(tile,)) for role in ("teacher", "student", "hybrid"))

    monkeypatch.setattr(run_screen, "draw", draw)
    return asked


def test_new_samples_stand_behind_the_previews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = draws(monkeypatch)
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "r")
        text = await press(app, pilot, "tab", "7", "enter")
        if not asked:  # the seed was not the second field, or Enter went on to the next one
            text = await press(app, pilot, "enter")
        assert [request.steps for request in asked] == [4]  # as many as the last preview has
        assert f"drawn now at 4 steps, seed {asked[0].seed}" in text
        assert roles(text, 4) == ["teacher", "student", "hybrid"]
        assert "3 of 3" in text
        assert "previews at step 600" in await press(app, pilot, "[")
        assert "drawn now" in await press(app, pilot, "]")
        write_previews(run, 700, [blob(0)])
        assert "drawn now" in await refresh(app, pilot)  # it is not taken away
        assert "previews at step 700" in await press(app, pilot, "[")

    drive(watch(run), act)


def test_a_drawing_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draws(monkeypatch, complaint="no checkpoint yet (wait for the first)")
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "r")
        text = await press(app, pilot, "enter")
        assert "no checkpoint yet" in told(app)
        assert "previews at step 600" in text

    drive(watch(run), act)


def test_no_run_no_drawing(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "r")
        assert "no run here yet" in told(app)

    drive(watch(RunDirectory(tmp_path / "digits" / "student-1")), act)


# -- pixels and viewers ------------------------------------------------------------------------


def test_pictures_change_to_pixels_and_back(tmp_path: Path) -> None:
    pytest.importorskip("textual_image")
    run = make_run(tmp_path)
    app = watch(run, plain=False)
    app.pictures = ("blocks", "sixel")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        wall = app.screen.query_one(PixelWall)
        assert not wall.display
        await press(app, pilot, "k")
        assert "pictures: sixel" in told(app)
        assert (wall.display, len(app.screen.query(PictureCell))) == (True, 6)
        await press(app, pilot, "}")
        assert len(app.screen.query(PictureCell)) == 2
        write_texts(run, 700, ["only text"])
        await press(app, pilot, "{")
        assert "only text" in await refresh(app, pilot)
        assert not wall.display
        await press(app, pilot, "k")
        assert app.settings.pictures == "blocks"

    drive(app, act)


def test_without_pixels_the_key_says_what_is_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "k")
        assert "di4c[images]" in told(app)
        assert app.screen.query_one(SamplePane).pictures == "blocks"

    drive(watch(run), act)


@pytest.fixture
def viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A viewer on PATH that writes down what it was asked to show."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "xdg-open"
    program.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path / "shown"}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    return tmp_path / "shown"


def test_samples_open_in_the_viewer(tmp_path: Path, viewer: Path) -> None:
    run = make_run(tmp_path / "runs")
    grid = run.path / "samples" / "step-300" / "grid.png"
    Image.new("L", (4, 4)).save(grid)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "[", "o")
        for _ in range(100):
            if viewer.exists() and viewer.read_text():
                break
            await pilot.pause(0.02)
        assert viewer.read_text() == f"{grid}\n"

    drive(watch(run), act)


def test_without_a_viewer_the_place_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples.txt").touch()
    monkeypatch.setenv("PATH", "")
    assert (
        opening.open_in_viewer(tmp_path) == f"no viewer here; the samples are in {tmp_path / 'samples.txt'}"
    )
