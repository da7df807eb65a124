"""Starting a run from inside, and stopping one."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canned_run import make_run
from dialogs import SIZES, Act, clicking, drive, fill, left_by_escape, pressing, until
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import OptionList

from di4c_cli import launch, shipped
from di4c_cli.runs import RunDirectory
from di4c_cli.tui.drawing import DrawRequest, draw
from di4c_cli.tui.frame import screen_text
from di4c_cli.tui.pictures import Preview, read_previews
from di4c_cli.tui.screens.new_run import NewRunScreen, recipe_choices
from di4c_cli.tui.screens.stop_run import StopRunScreen, can_stop
from di4c_cli.tui.tail import read_facts

TRAINS = """
import json, os, socket, sys, time
from pathlib import Path
from di4c_cli.runs import RunDirectory, Status
words = sys.argv[1:]
if "bad" in words:
    sys.exit("\\n".join(f"digits.toml:{line}: wrong \\x1b[31m" for line in range(20)))
if "nothing" in words:
    sys.exit(0)
if "slow" in words:
    Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
run = RunDirectory.create("digits", "student")
run.log(json.dumps(words))
run.write_status(Status(role="student", pid=os.getpid(), host=socket.gethostname()))
time.sleep(60)
"""


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder to work in; what is started there ends with the test."""
    started = []
    start = launch.start

    def noted(*arguments: Any) -> launch.Launched:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(launch, "start", noted)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for launched in started:
        launched.process.kill()
        launched.process.wait()


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch, at_home: Path) -> Path:
    """The same with another program in the place of `di4c`."""
    monkeypatch.setattr(launch, "command", lambda arguments: [sys.executable, "-c", TRAINS, *arguments])
    return at_home


def words_of(run: RunDirectory) -> list[str]:
    """The arguments that the stand-in was given."""
    return json.loads(run.log_path.read_text().split(" ", 1)[1])


# -- starting a run ----------------------------------------------------------------------------


def test_a_recipe_is_typed_overridden_and_started(trains: Path) -> None:
    given: list[RunDirectory] = []

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press(*"dig", "enter", *"a=9 b='a b'", "enter")
        assert "starting: di4c distill digits a=9 'b=a b'" in screen_text(app)
        await pilot.press("enter")  # it is under way: not twice
        await until(pilot, lambda: given)

    drive(NewRunScreen(trains / "elsewhere"), act, given=given)
    assert given == [RunDirectory(trains / "elsewhere" / "digits" / "student-1")]
    assert words_of(given[0]) == ["distill", "--quiet", "digits", "a=9", "b=a b"]
    assert len(RunDirectory.find_all(trains / "elsewhere")) == 1


def test_keys_walk_through_the_recipes_and_the_fields(trains: Path) -> None:
    given: list[RunDirectory] = []

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        fill(app, "filter", "digits")
        await pilot.press("down", "tab", "right")  # the second match, the other command
        await pilot.press("down", *"a=", "up", "left", "space", "down", "tab", "enter")
        await until(pilot, lambda: given)

    drive(NewRunScreen(trains), act, given=given)
    assert words_of(given[0]) == ["train-teacher", "--quiet", "digits_gaussian", "a="]


def test_the_mouse_starts_a_run_too(trains: Path) -> None:
    given: list[RunDirectory] = []

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.click("#recipes", offset=(3, 2))
        await pilot.click("#command")
        await pilot.click("#start")
        await until(pilot, lambda: given)

    drive(NewRunScreen(trains), act, given=given)
    assert words_of(given[0]) == ["train-teacher", "--quiet", list(shipped.recipe_paths())[2]]


def test_a_complaint_is_shown_and_can_be_acted_on(trains: Path) -> None:
    given: list[RunDirectory] = []

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        fill(app, "overrides", "bad")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: "digits.toml:19: wrong" in screen_text(app))
        text = screen_text(app)
        assert "digits.toml:14" in text
        assert "digits.toml:13" not in text
        assert "\x1b" not in text
        assert app.focused is app.screen.query_one("#overrides")
        assert app.focused.value == "bad"
        fill(app, "overrides", "nothing")
        await pilot.press("enter")
        await until(pilot, lambda: "made no run" in screen_text(app))
        fill(app, "overrides", "")
        await pilot.press("enter")
        await until(pilot, lambda: given)

    drive(NewRunScreen(trains), act, given=given)
    assert words_of(given[0])[0] == "distill"


def test_what_cannot_be_started_is_told_at_once(trains: Path) -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        fill(app, "overrides", "a='1")
        await pilot.press("enter", "enter")
        assert "overrides: No closing quotation" in screen_text(app)
        fill(app, "overrides", "")
        fill(app, "filter", "no such recipe")
        await pilot.press("enter")
        assert "no recipe is picked" in screen_text(app)
        assert app.screen.query_one(OptionList).option_count == 0

    assert drive(NewRunScreen(trains), act) == []
    assert RunDirectory.find_all(trains) == []


def test_leaving_while_it_starts_leaves_it_running(trains: Path) -> None:
    pid = trains / "pid"

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        fill(app, "overrides", "slow")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: pid.exists() and pid.read_text())
        await pilot.press("escape")
        await pilot.pause()

    assert drive(NewRunScreen(trains), act) == [None]
    os.kill(int(pid.read_text()), 0)  # raises where it is gone


def test_own_recipes_are_offered_beside_the_shipped_ones(trains: Path) -> None:
    (trains / "recipes").mkdir()
    (trains / "pyproject.toml").touch()
    (trains / "mine.toml").write_text('title = "My own"')
    (trains / "recipes" / "damaged.toml").write_text("title = ")
    (trains / "recipes" / "shipped.toml").symlink_to(shipped.recipe_paths()["toy"])
    titles = {choice.recipe: choice.title for choice in recipe_choices()}
    assert list(titles) == [*shipped.recipe_paths(), "mine.toml", "recipes/damaged.toml"]
    assert titles["mine.toml"] == "My own"
    assert "digits" in titles["digits"]


# -- stopping a run ----------------------------------------------------------------------------

SAVES = """
import signal, sys, time
def save(*_): sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def trainer() -> Iterator["subprocess.Popen[str]"]:
    """A process that ends on SIGTERM with a code of its own."""
    command = [sys.executable, "-c", SAVES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def run_of(root: Path, pid: Any, host: str | None = None, state: str = "running") -> RunDirectory:
    run = make_run(root, rows=1, previews=(), state=state)
    status = run.status()
    status.pid, status.host = pid, socket.gethostname() if host is None else host
    run.write_status(status)
    return run


@pytest.mark.parametrize("answer", [pressing("y"), pressing("right", "enter"), clicking("#stop")])
def test_a_run_is_stopped_after_a_question(
    tmp_path: Path, trainer: "subprocess.Popen[str]", answer: Act
) -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        text = " ".join(screen_text(app).replace("│", " ").split())
        assert "Stop digits/student-1 at step 600 of 1,000?" in text
        assert "saves a resumable checkpoint" in text
        await answer(app, pilot)

    assert drive(StopRunScreen(run_of(tmp_path, trainer.pid)), act) == [True]
    assert trainer.wait(10) == 143


@pytest.mark.parametrize("answer", [pressing("enter"), pressing("n"), pressing("escape"), clicking("#leave")])
def test_a_run_is_left_alone_unless_one_says_so(
    tmp_path: Path, trainer: "subprocess.Popen[str]", answer: Act
) -> None:
    assert drive(StopRunScreen(run_of(tmp_path, trainer.pid)), answer) == [False]
    with pytest.raises(subprocess.TimeoutExpired):
        trainer.wait(0.2)


def test_a_run_elsewhere_is_not_stopped_here(tmp_path: Path, trainer: "subprocess.Popen[str]") -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        assert f"it runs on gpu-box; type there: kill {trainer.pid}" in screen_text(app)
        await pressing("y", "enter")(app, pilot)

    assert drive(StopRunScreen(run_of(tmp_path, trainer.pid, host="gpu-box")), act) == [False]
    with pytest.raises(subprocess.TimeoutExpired):
        trainer.wait(0.2)


def test_what_changed_since_the_question_counts(tmp_path: Path, trainer: "subprocess.Popen[str]") -> None:
    run = run_of(tmp_path, trainer.pid)

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        status = run.status()
        status.state = "finished"
        run.write_status(status)
        await pressing("y")(app, pilot)
        assert "it is not running: finished" in screen_text(app)

    assert drive(StopRunScreen(run), act) == []
    with pytest.raises(subprocess.TimeoutExpired):
        trainer.wait(0.2)


def test_reasons_why_a_run_cannot_be_stopped(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    for state in ("finished", "failed", "interrupted"):
        assert state in can_stop(read_facts(run_of(tmp_path, os.getpid(), state=state), {}))
    assert f"process {gone.pid} is gone" in can_stop(read_facts(run_of(tmp_path, gone.pid), {}))
    for damaged in (0, 1, -1, "me", None, 1e300):
        assert "does not tell its process" in can_stop(read_facts(run_of(tmp_path, damaged), {}))
    assert "waiting" in can_stop(read_facts(RunDirectory(tmp_path / "digits" / "none"), {}))
    assert can_stop(read_facts(run_of(tmp_path, os.getpid()), {})) == ""


# -- any size ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_dialogs_are_left_by_escape_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    elsewhere = run_of(tmp_path, os.getpid(), host="elsewhere")
    assert drive(NewRunScreen(tmp_path), left_by_escape(size), size) == [None]
    assert drive(StopRunScreen(elsewhere), left_by_escape(size), size) == [False]


# -- the real program --------------------------------------------------------------------------


def pixels(preview: Preview) -> list[bytes]:
    return [tile.tobytes() for tile in preview.tiles]


def test_started_stopped_and_drawn_from(at_home: Path) -> None:
    """One run's life, with the real program behind every dialog.

    A student's run with all calls by the teacher gives the samples that its previews show of the teacher.
    """
    overrides = "train.steps=1000000 train.batch_size=8 preview.every=5 preview.num=4 'preview.steps=[2]'"
    given: list[RunDirectory] = []

    async def start(app: App[None], pilot: Pilot[None]) -> None:
        fill(app, "filter", "digits")
        fill(app, "overrides", overrides)
        await pilot.press("enter", "enter")
        await until(pilot, lambda: given and given[0].samples())

    drive(NewRunScreen(at_home / "runs"), start, given=given)
    (run,) = given
    assert drive(StopRunScreen(run), pressing("y")) == [True]
    end = time.monotonic() + 60
    while run.status().state == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert run.status().state == "interrupted"

    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    (at_home / "drawn").mkdir()
    drawn = asyncio.run(draw(run, DrawRequest(steps=2, num=4), at_home / "drawn"))
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
    assert [(preview.role, preview.steps, len(preview.tiles)) for preview in drawn] == [
        ("teacher", 2, 4),
        ("student", 2, 4),
    ]
    shown = read_previews(run.samples()[0])
    assert pixels(drawn[0]) == pixels(shown[0]) != pixels(drawn[1])
