"""Pictures in real pixels: what is asked of a terminal, and the wall that shows them."""

import asyncio
import base64
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from canned_run import blob
from PIL import Image
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from di4c_cli.tui import pixels
from di4c_cli.tui.pictures import Preview, arrange
from di4c_cli.tui.widgets.pixel_wall import PictureCell, PixelWall

REPOSITORY = Path(__file__).parents[2]
KITTY = {b"a=q": b"\x1b_Gi=31;OK\x1b\\"}
CELLS = {b"\x1b[16t": b"\x1b[6;18;9t"}
SIXEL, PLAIN = {b"\x1b[c": b"\x1b[?62;4;22c"}, {b"\x1b[c": b"\x1b[?1;2c"}
ASK = """
import json, select, sys, termios, time
from di4c_cli.tui import pixels
mode, begin = termios.tcgetattr(0), time.monotonic()
found = pixels.available()
told = {
    "found": found,
    "seconds": time.monotonic() - begin,
    "cell": pixels.cell_size() if found else None,
    "mode kept": termios.tcgetattr(0) == mode,
    "left over": bool(select.select([0], [], [], 0.05)[0]),
    "heavy": sorted({"numpy", "torch"} & set(sys.modules)),
}
open(sys.argv[1], "w").write(json.dumps(told))
"""


def on_terminal(
    folder: Path, answers: dict[bytes, bytes], **environment: str
) -> tuple[dict[str, Any], bytes]:
    """What `available` says on a terminal that answers so, and all that the terminal was sent."""
    out, heard = folder / "told.json", b""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(REPOSITORY)
        clean = {name: value for name, value in os.environ.items() if name not in ("TMUX", "NO_COLOR")}
        terminal_type = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        arguments = [sys.executable, "-c", ASK, str(out)]
        os.execve(sys.executable, arguments, {**clean, **terminal_type, **environment})
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other side has closed
            break
        if not data:
            break
        heard += data
        os.write(terminal, b"".join(answer for question, answer in answers.items() if question in data))
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    os.waitpid(pid, 0)
    return json.loads(out.read_text()), heard


# -- what is available -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "environment", "found"),
    [
        (KITTY | CELLS | PLAIN, {}, ["kitty"]),
        (CELLS | SIXEL, {}, ["sixel"]),
        (KITTY | CELLS | SIXEL, {}, ["sixel"]),
        (CELLS | PLAIN, {}, []),
        (KITTY | CELLS | PLAIN, {"COLORTERM": ""}, []),
    ],
)
def test_the_terminal_says_what_it_shows(
    tmp_path: Path, answers: dict[bytes, bytes], environment: dict[str, str], found: list[str]
) -> None:
    pytest.importorskip("textual_image")
    told, heard = on_terminal(tmp_path, answers, **environment)
    assert told["found"] == found
    assert told["cell"] == ([9, 18] if found else None)
    assert told["mode kept"]
    assert not told["left over"]
    assert told["heavy"] == []
    assert heard.count(b"\x1b[c") == 1  # textual-image does not ask again
    assert heard.endswith(b"\r\x1b[K")  # nothing stays of a question that was taken for text


def test_a_silent_terminal_costs_a_moment(tmp_path: Path) -> None:
    pytest.importorskip("textual_image")
    told, _ = on_terminal(tmp_path, {})
    assert told["found"] == []
    assert told["seconds"] < 2
    assert told["mode kept"]


def test_a_multiplexer_is_not_asked_for_kitty(tmp_path: Path) -> None:
    pytest.importorskip("textual_image")
    told, heard = on_terminal(tmp_path, KITTY | SIXEL, TMUX="/tmp/tmux,1,0")
    assert told["found"] == ["sixel"]
    assert b"\x1b_G" not in heard


@pytest.mark.parametrize("name", ["TERM", "NO_COLOR"])
def test_a_terminal_that_shows_no_pictures_is_not_asked(tmp_path: Path, name: str) -> None:
    told, heard = on_terminal(tmp_path, KITTY | SIXEL, **{name: "dumb"})
    assert told["found"] == []
    assert heard == b""


class Terminal(io.StringIO):
    """A terminal as far as anyone can tell, but not one that may be asked."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise AssertionError("the terminal was asked")


def test_without_the_extra_nothing_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("__stdin__", "__stdout__"):
        monkeypatch.setattr(sys, name, Terminal())
    asked: list[str] = []
    monkeypatch.setattr(pixels, "_ask", lambda questions: asked.append(questions) or "")
    monkeypatch.setitem(sys.modules, "textual_image", None)
    assert pixels.available() == ()
    assert asked == []


def test_without_a_terminal_nothing_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert subprocess.run(
        [sys.executable, "-c", "from di4c_cli.tui.pixels import available; print(available())"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    ).stdout.split() == [b"()"]
    monkeypatch.setattr(sys, "__stdin__", None)
    assert pixels.available() == ()


# -- the wall ----------------------------------------------------------------------------------


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield PixelWall()

    @property
    def wall(self) -> PixelWall:
        return self.screen_stack[0].query_one(PixelWall)


Act = Callable[[Shown, Pilot[None]], Awaitable[None]]


def drive(act: Act, size: tuple[int, int] = (80, 40)) -> None:
    async def main() -> None:
        app = Shown()
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(main())


def preview(role: str, steps: int, colour: int = 0, tiles: int = 12) -> Preview:
    images = []
    for seed in range(tiles):
        image = Image.new("RGB", (8, 8))
        image.putdata([(value, 255 - value, colour) for line in blob(seed) for value in line])
        images.append(image)
    return Preview(role, steps, tiles=tuple(images))


def previews(colour: int = 0) -> tuple[Preview, ...]:
    return tuple(preview(role, steps, colour) for steps in (1, 2, 4) for role in ("teacher", "student"))


def pictures(app: Shown) -> list[Any]:
    """The picture widgets that have a place on the wall."""
    cells = app.wall.query(PictureCell)
    return [cell.picture for cell in cells if cell.picture is not None and cell.picture.display]


@pytest.fixture
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("textual_image")
    monkeypatch.setattr(sys, "__stdout__", io.StringIO())  # kitty's pictures go there directly
    return str(request.param)


both = pytest.mark.parametrize("protocol", ["kitty", "sixel"], indirect=True)


@both
def test_every_preview_is_a_picture_below_its_title(protocol: str) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.wall.show(previews(), protocol)
        await pilot.pause(0.2)
        assert len(pictures(app)) == 6
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        titles = [f"{role} · {steps} step" for steps in (1, 2, 4) for role in ("teacher", "student")]
        assert [title for title in titles if title not in text] == []
        by_row = [[cell.region.y for cell in app.wall.query(PictureCell)][at : at + 2] for at in (0, 2, 4)]
        assert all(left == right for left, right in by_row)
        for picture in pictures(app):
            width, height = pixels.cell_size()
            assert picture.image.size == (picture.size.width * width, picture.size.height * height)
            assert picture.region.width <= 38

    drive(act)


@both
def test_new_previews_take_the_place_of_the_old_ones(protocol: str) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.wall.show(previews(), protocol)
        await pilot.pause(0.2)
        before = (pictures(app), len(app.query("*")), pictures(app)[0].image)
        for colour in (50, 100):
            app.wall.show(previews(colour), protocol)
            await pilot.pause(0.1)
        assert (pictures(app), len(app.query("*"))) == before[:2]
        assert pictures(app)[0].image != before[2]
        app.wall.show(previews()[:2], protocol)
        await pilot.pause(0.1)
        assert len(pictures(app)) == len(app.wall.query(PictureCell)) == 2
        app.wall.show((), protocol)
        await pilot.pause(0.1)
        assert len(app.wall.children) == 0

    drive(act)


@both
def test_shown_again_and_again_at_once_it_keeps_the_last(protocol: str) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        for count in (2, 6, 4):
            app.wall.show(previews()[:count], protocol)
        await pilot.pause(0.2)
        assert len(pictures(app)) == len(app.wall.query(PictureCell)) == 4

    drive(act)


@both
def test_an_unreadable_preview_says_so_until_it_is_whole(protocol: str) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.wall.show((Preview("teacher", 1), Preview("student", 1, lines=("text",))), protocol)
        await pilot.pause(0.2)
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "not readable yet" in text
        assert "student" not in text  # text has its own view
        app.wall.show((preview("teacher", 1),), protocol)
        await pilot.pause(0.2)
        assert len(pictures(app)) == 1
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "not readable yet" not in text

    drive(act)


@both
@pytest.mark.parametrize("size", [(1, 1), (20, 5), (300, 3)])
def test_any_size_draws(protocol: str, size: tuple[int, int]) -> None:
    huge = Preview("teacher", 1, tiles=(Image.new("RGB", (1000, 2000)),))
    whole = Preview("student", 1, tiles=(Image.new("RGB", (1000, 2000)),), whole=True)

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.wall.show(previews(), protocol)
        for other in ((120, 40), size):
            await pilot.resize_terminal(*other)
        await pilot.pause(0.2)
        app.wall.show((huge, whole), protocol)
        await pilot.pause(0.1)
        await pilot.resize_terminal(80, 24)
        await pilot.pause(0.2)
        assert len(pictures(app)) == 2

    drive(act, size)


# -- what goes to the terminal -----------------------------------------------------------------


def expected(app: Shown) -> Image.Image:
    """The picture of `preview("teacher", 1)` when it has the wall for itself."""
    ground = app.wall.background_colors[1]
    surface = (ground.r, ground.g, ground.b)
    columns, rows = app.wall.scrollable_content_region.size
    width, height = pixels.cell_size()
    canvas = arrange(preview("teacher", 1), (columns - 2) * width, (rows - 2) * height, surface)
    return pixels.whole_cells(canvas, surface)


@pytest.mark.parametrize("protocol", ["kitty"], indirect=True)
def test_kitty_gets_the_picture_pixel_by_pixel(protocol: str) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.wall.show((preview("teacher", 1),), protocol)
        await pilot.pause(0.2)
        sent = re.findall(r"\x1b_Gi=\d+,m=\d,f=100[^;]*;([^\x1b]*)\x1b", sys.__stdout__.getvalue())
        picture = Image.open(io.BytesIO(base64.b64decode("".join(sent))))
        assert picture.convert("RGB").tobytes() == expected(app).tobytes()

    drive(act, (40, 12))


def decode_sixels(data: str) -> Image.Image:
    """A picture as xterm reads it: to define a colour is not yet to choose it."""
    width, height = map(int, re.findall(r'"1;1;(\d+);(\d+)', data)[0])
    image, colours, colour = Image.new("RGB", (width, height)), {}, "0"
    x = y = 0
    for number, mix, count, end, bits in re.findall(
        r"#(\d+)(?:;2;([\d;]+))?|(?:!(\d+))?(?:([$-])|([?-~]))",
        data.split('"', 1)[1][:-2].lstrip("0123456789;"),
    ):
        if mix:
            colours[number] = tuple(round(int(share) * 2.55) for share in mix.split(";"))
        elif number:
            colour = number
        elif end:
            x, y = 0, y + 6 * (end == "-")
        else:
            for column in range(x, x + int(count or 1)):
                for row in range(6):
                    if (ord(bits) - 63) >> row & 1 and y + row < height:
                        image.putpixel((column, y + row), colours[colour])
            x += int(count or 1)
    return image


@pytest.mark.parametrize("protocol", ["sixel"], indirect=True)
def test_sixel_gets_the_picture_pixel_by_pixel(protocol: str) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.wall.show((preview("teacher", 1),), protocol)
        await pilot.pause(0.2)
        segments = [segment.text for strip in app.screen._compositor.render_strips() for segment in strip]
        (sixels,) = [text for text in segments if text.startswith("\x1bP")]
        wanted, got = expected(app), decode_sixels(sixels)
        assert got.size == wanted.size
        differences = zip(wanted.tobytes(), got.tobytes(), strict=True)
        assert (
            max(abs(one - other) for one, other in differences) <= 3
        )  # shares of colours are whole percents

    drive(act, (40, 12))
