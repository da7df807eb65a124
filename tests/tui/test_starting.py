"""Dialogs that start a process or stop one: new run, new samples, stop."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from canned_run import make_run
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, OptionList

from di4c_cli import launch, shipped
from di4c_cli.runs import RunDirectory
from di4c_cli.tui.drawing import DrawError, DrawRequest, draw
from di4c_cli.tui.frame import screen_text
from di4c_cli.tui.pictures import Preview
from di4c_cli.tui.screens.draw_samples import DrawSamplesScreen
from di4c_cli.tui.screens.new_run import NewRunScreen, recipe_choices
from di4c_cli.tui.screens.stop_run import StopRunScreen, can_stop
from di4c_cli.tui.tail import read_facts

Act = Callable[[App[None], Pilot[None]], Awaitable[None]]
SIZES = [(80, 24), (20, 5), (1, 1)]

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


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it never came:\n{screen_text(pilot.app)}"
        await pilot.pause(0.02)


def drive(screen: Screen[Any], act: Act, size: tuple[int, int] = (80, 24)) -> list[Any]:
    """Let `act` use a dialog over an empty screen; what the dialog gave back."""
    given: list[Any] = []

    async def main() -> None:
        app: App[None] = App()
        async with app.run_test(size=size) as pilot:
            await app.push_screen(screen, given.append)
            await app.workers.wait_for_complete()
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(main())
    return given


def pressing(*keys: str) -> Act:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press(*keys)
        await app.workers.wait_for_complete()
        await pilot.pause()

    return act


def clicking(*selectors: str) -> Act:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        for selector in selectors:
            assert await pilot.click(selector)
        await app.workers.wait_for_complete()
        await pilot.pause()

    return act


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Another program in the place of `di4c`, and an own folder; what was started ends with the test."""
    started = []
    start = launch.start

    def noted(*arguments: Any) -> launch.Launched:
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(launch, "command", lambda arguments: [sys.executable, "-c", TRAINS, *arguments])
    monkeypatch.setattr(launch, "start", noted)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for launched in started:
        launched.process.kill()
        launched.process.wait()


def words_of(run: RunDirectory) -> list[str]:
    """The arguments that the stand-in was given."""
    return json.loads(run.log_path.read_text().split(" ", 1)[1])


# -- starting a run ----------------------------------------------------------------------------


def test_a_recipe_is_typed_overridden_and_started(trains: Path) -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press(*"digits", "enter", *"train.steps=9 title='a b'", "enter")
        assert "starting: di4c distill digits train.steps=9 'title=a b'" in screen_text(app)
        await pilot.press("enter")  # it is under way: not twice
        await until(pilot, lambda: given)

    screen = NewRunScreen(trains / "elsewhere")
    given = screen_results(screen)
    drive(screen, act)
    assert given == [RunDirectory(trains / "elsewhere" / "digits" / "student-1")]
    assert words_of(given[0]) == ["distill", "--quiet", "digits", "train.steps=9", "title=a b"]
    assert len(RunDirectory.find_all(trains / "elsewhere")) == 1


def screen_results(screen: Screen[Any]) -> list[Any]:
    """What a dialog gives back, as soon as it does."""
    given: list[Any] = []
    dismiss = screen.dismiss

    def noted(result: Any = None) -> Any:
        given.append(result)
        return dismiss(result)

    screen.dismiss = noted
    return given


def test_keys_walk_through_the_recipes_and_the_fields(trains: Path) -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press(*"digits", "down", "tab", "right")  # the second match, the other command
        await pilot.press("down", *"a=1", "up", "left", "space", "down", "tab", "enter")
        await until(pilot, lambda: given)

    screen = NewRunScreen(trains)
    given = screen_results(screen)
    drive(screen, act)
    assert words_of(given[0]) == ["train-teacher", "--quiet", "digits_gaussian", "a=1"]


def test_the_mouse_starts_a_run_too(trains: Path) -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.click("#recipes", offset=(3, 2))
        await pilot.click("#command")
        await pilot.click("#start")
        await until(pilot, lambda: given)

    screen = NewRunScreen(trains)
    given = screen_results(screen)
    drive(screen, act)
    assert words_of(given[0]) == ["train-teacher", "--quiet", list(shipped.recipe_paths())[2]]


def test_a_complaint_is_shown_and_can_be_acted_on(trains: Path) -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press("enter", *"bad", "enter")
        await until(pilot, lambda: "digits.toml:19: wrong" in screen_text(app))
        text = screen_text(app)
        assert "digits.toml:14" in text
        assert "digits.toml:13" not in text
        assert "\x1b" not in text
        assert app.focused is app.screen.query_one("#overrides")
        await pilot.press("ctrl+u", *"nothing", "enter")
        await until(pilot, lambda: "made no run" in screen_text(app))
        await pilot.press("ctrl+u", "enter")
        await until(pilot, lambda: given)

    screen = NewRunScreen(trains)
    given = screen_results(screen)
    drive(screen, act)
    assert words_of(given[0])[0] == "distill"


def test_what_cannot_be_started_is_told_at_once(trains: Path) -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press("enter", *"a='1", "enter")
        assert "overrides: No closing quotation" in screen_text(app)
        await pilot.press("ctrl+u", "up", "up", *"no such recipe", "enter", "enter")
        assert "no recipe is picked" in screen_text(app)
        assert app.screen.query_one(OptionList).option_count == 0

    assert drive(NewRunScreen(trains), act) == []
    assert RunDirectory.find_all(trains) == []


def test_leaving_while_it_starts_leaves_it_running(trains: Path) -> None:
    pid = trains / "pid"

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press("enter", *"slow", "enter")
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


# -- asking what to draw -----------------------------------------------------------------------


@pytest.mark.parametrize("go", [pressing("enter"), clicking("#draw")])
def test_what_is_offered_can_be_drawn_at_once(go: Act) -> None:
    assert drive(DrawSamplesScreen("student", 4), go) == [DrawRequest(steps=4)]
    assert drive(DrawSamplesScreen("teacher", 2), go) == [DrawRequest(steps=2, teacher=False)]


def test_everything_about_a_drawing_can_be_typed() -> None:
    keys = ["8", "down", "7", "tab", "5", "down", "3", "down", "right", "up", "enter"]
    wanted = DrawRequest(steps=8, seed=7, num=5, teacher_steps=3, teacher=False)
    assert drive(DrawSamplesScreen("student", 4), pressing(*keys)) == [wanted]


def test_numbers_that_make_no_sense_are_told() -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "down", "9", "enter")
        assert "hybrid: a whole number from 0 to 4" in screen_text(app)
        await pilot.press("0", "up", "backspace", "enter")
        assert "samples: a whole number from 1 to 256" in screen_text(app)
        await pilot.press("2", "enter")

    assert drive(DrawSamplesScreen("student", 4), act) == [DrawRequest(steps=4, num=2)]


# -- any size ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["new", "stop", "draw"])
def test_a_dialog_is_left_by_escape_at_any_size(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    screens: dict[str, tuple[Screen[Any], Any]] = {
        "new": (NewRunScreen(tmp_path), None),
        "stop": (StopRunScreen(run_of(tmp_path, os.getpid(), host="elsewhere")), False),
        "draw": (DrawSamplesScreen("student", 4), None),
    }
    screen, nothing = screens[name]

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        walk = ["tab", "down", "up", "up", "shift+tab", "right", "left"]
        await pilot.press(*walk)
        await pilot.resize_terminal(200, 3)
        await pilot.press(*walk)
        await pilot.resize_terminal(*size)
        lines = screen_text(app).splitlines()
        assert len(lines) <= size[1]
        await pilot.press("escape")
        await pilot.pause()

    assert drive(screen, act, size) == [nothing]


def test_the_field_in_focus_is_on_a_tiny_screen() -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "down", "9", "enter")
        text = screen_text(app)
        assert "hybrid" in text
        assert "a whole" in text

    drive(DrawSamplesScreen("student", 4), act, (20, 5))


def test_fields_do_not_blink() -> None:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        assert not any(field.cursor_blink for field in app.screen.query(Input))

    drive(DrawSamplesScreen("student", 4), act)


# -- drawing -----------------------------------------------------------------------------------

SAMPLES = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
(out / "samples.txt").write_text(" ".join(words[2:words.index("--out")]) + "\\nand a \\x1b[31m second\\n")
print(json.dumps({"files": [str(out / "samples.txt")]}))
"""


def standing_in(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(launch, "command", lambda arguments: [sys.executable, "-c", program, *arguments])


def test_texts_are_drawn_from_every_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standing_in(monkeypatch, SAMPLES)
    run = make_run(tmp_path, rows=1, previews=())
    (tmp_path / "out").mkdir()
    request = DrawRequest(steps=4, seed=7, num=2, teacher_steps=1)
    for _ in range(2):  # again, into the same folder
        previews = asyncio.run(draw(run, request, tmp_path / "out"))
    common = "--steps 4 --seed 7 --num 2"
    assert [(preview.role, preview.steps, preview.lines[0]) for preview in previews] == [
        ("teacher", 4, f"{common} --teacher-steps 4"),
        ("student", 4, common),
        ("hybrid", 4, f"{common} --teacher-steps 1"),
    ]
    assert previews[0].lines[1] == "and a ·[31m second"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; print('a warning', file=sys.stderr); sys.exit('no checkpoint yet (wait)\\n')", "no ch"),
        ("raise SystemExit(9)", "di4c sample ended with code 9"),
        ("print('no JSON')", "drawing failed: "),
        ("print('{\"files\": []}')", "drawing failed: "),
        ('print(\'{"files": ["/nowhere/00000.png"]}\')', "drawing failed: "),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    standing_in(monkeypatch, program)
    run = make_run(tmp_path, rows=1, previews=())
    with pytest.raises(DrawError) as caught:
        asyncio.run(draw(run, DrawRequest(steps=1), tmp_path))
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


def test_a_cancelled_drawing_ends_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    program = (
        f"import os, time, pathlib; pathlib.Path({str(pids)!r}, str(os.getpid())).touch(); time.sleep(60)"
    )
    standing_in(monkeypatch, program)
    run = make_run(tmp_path, rows=1, previews=())

    async def main() -> None:
        task = asyncio.create_task(draw(run, DrawRequest(steps=1), tmp_path))
        while len(list(pids.iterdir())) < 2:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    for path in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


# -- the real program --------------------------------------------------------------------------


def shipped_teacher_run(root: Path) -> RunDirectory:
    """A finished teacher's run, made of the teacher that comes with the program."""
    run = make_run(root, role="teacher", state="finished", rows=1, previews=())
    checkpoint = shipped.shipped_teacher("digits")
    assert checkpoint is not None
    run.final.symlink_to(checkpoint)
    return run


def pixels(preview: Preview) -> list[bytes]:
    return [tile.tobytes() for tile in preview.tiles]


def test_started_stopped_and_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run's life, with the real program behind every dialog.

    All calls of a hybrid by the teacher are the teacher: the same samples as its own run gives.
    """
    monkeypatch.chdir(tmp_path)
    teacher = shipped_teacher_run(tmp_path / "runs")
    screen = NewRunScreen(tmp_path / "runs")
    given = screen_results(screen)

    async def start(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press(*"digits", "enter")
        app.screen.query_one("#overrides", Input).value = "train.steps=1000000 train.batch_size=8"
        await pilot.press("enter")
        await until(pilot, lambda: given)

    drive(screen, start)
    (run,) = given
    try:
        assert drive(StopRunScreen(run), pressing("y")) == [True]
        end = time.monotonic() + 60
        while run.status().state == "running":
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        if run.status().state == "running":
            os.kill(run.status().pid, signal.SIGKILL)
    assert run.status().state == "interrupted"
    assert run.checkpoints()

    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    (tmp_path / "drawn").mkdir()

    async def both() -> list[tuple[Preview, ...]]:
        request = DrawRequest(steps=2, seed=3, num=5, teacher_steps=1)
        return await asyncio.gather(*(draw(which, request, tmp_path / "drawn") for which in (run, teacher)))

    drawn, of_teacher = asyncio.run(both())
    assert [(preview.role, preview.steps, len(preview.tiles)) for preview in drawn] == [
        (role, 2, 5) for role in ("teacher", "student", "hybrid")
    ]
    assert [tile.size for tile in drawn[1].tiles] == [(8, 8)] * 5
    assert [preview.role for preview in of_teacher] == ["teacher"]
    assert pixels(drawn[0]) == pixels(of_teacher[0])
    assert len({tuple(pixels(preview)) for preview in drawn}) == 3
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
