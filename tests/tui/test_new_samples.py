"""New samples on demand: the dialog that asks for them, and the processes that draw them."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from canned_run import make_run
from dialogs import SIZES, Act, clicking, drive, left_by_escape, pressing
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from di4c_cli import launch
from di4c_cli.tui.drawing import DrawError, DrawRequest, draw
from di4c_cli.tui.frame import screen_text
from di4c_cli.tui.screens.draw_samples import DrawSamplesScreen

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


@pytest.mark.parametrize("size", SIZES)
def test_it_is_left_by_escape_at_any_size(size: tuple[int, int]) -> None:
    assert drive(DrawSamplesScreen("student", 4), left_by_escape(size), size) == [None]


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
    teacher = make_run(tmp_path, role="teacher", rows=1, previews=())
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
    (of_teacher,) = asyncio.run(draw(teacher, request, tmp_path / "out"))
    assert (of_teacher.role, of_teacher.lines[0]) == ("teacher", common)
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
        while not list(pids.iterdir()):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    for path in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)
