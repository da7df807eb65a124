"""The log pane and the file behind it: written, cut, replaced and deleted meanwhile, of any size."""

import asyncio
import os
import random
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from dialogs import until
from textual.app import App, ComposeResult
from textual.events import MouseScrollDown
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from di4c_cli.tui.log_file import BLOCK, LONGEST, LogFile, compile_filter
from di4c_cli.tui.widgets import PALETTE, log_pane
from di4c_cli.tui.widgets.log_pane import LogPane
from di4c_cli.tui.widgets.log_view import LogView


def read_all(log: LogFile) -> LogFile:
    log.poll()
    while log.behind:
        log.poll()
    return log


def contents(log: LogFile) -> list[str]:
    return read_all(log).lines(0, 10**9)


def matching(log: LogFile, words: str) -> list[tuple[int, str]]:
    log.filter(compile_filter(words))
    return read_all(log).matches(0, 10**9)


def append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def numbered(*numbers: int) -> str:
    return "".join(f"12:00:00 step {number}\n" for number in numbers)


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "half a li"])
def test_lines_are_those_of_the_file(tmp_path: Path, end: str) -> None:
    """Also at the borders of blocks, which the lengths hit in every way."""
    path, chance = tmp_path / "log.txt", random.Random(1)
    lines = ["x" * chance.choice([0, 1, 30, 200, LONGEST - 1, LONGEST]) for _ in range(400)]
    lines += ["y" * (BLOCK - 1)] * 3 + ["z"] * 3
    text = "\n".join(lines) + end
    path.write_text(text)
    log = LogFile(path)
    cut = [line[:LONGEST] + "…" * (len(line) > LONGEST) for line in text.removesuffix("\n").split("\n")]
    assert contents(log) == cut
    assert log.num_lines == len(cut)
    for start in (0, 1, 57, 200, len(cut) - 2, len(cut), len(cut) + 5):
        assert log.lines(start, 7) == cut[start : start + 7]
    assert log.last(2) == cut[-2:]


def test_what_is_appended_comes_and_a_half_written_line_grows(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.touch()
    log = LogFile(path)
    written = ""
    for piece in (
        "one",
        " and a half",
        "\n",
        "\n",
        "x" * 3000,
        "x" * 3000,
        "\ntwo\n",
        numbered(*range(9000)),
        "end",
    ):
        append(path, piece)
        written += piece
        assert log.poll()
        lines = written.removesuffix("\n").split("\n")
        assert log.num_lines == len(lines)
        assert log.lines(len(lines) - 1, 1) == [lines[-1][:LONGEST] + "…" * (len(lines[-1]) > LONGEST)]
    assert not log.poll()


def test_a_line_that_grew_is_matched_again(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("x" * (BLOCK - 4) + "\nwar")  # begins just before the border of a block
    log = LogFile(path)
    assert matching(log, "warning$") == []
    append(path, "ning")
    assert matching(log, "warning$") == [(1, "warning")]
    append(path, " no more\n")
    assert matching(log, "warning$") == []


@pytest.mark.parametrize(
    "after",
    [
        numbered(1, 2),  # cut back
        numbered(*range(70, 99)),  # replaced by a longer file
        "",  # emptied
    ],
)
def test_another_file_is_indexed_anew(tmp_path: Path, after: str) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(1, 2, 3, 4))
    log = LogFile(path)
    assert matching(log, "step 4") == [(3, "12:00:00 step 4")]
    path.write_text(after)
    assert contents(log) == after.splitlines()
    assert log.matches(0, 9) == []


def test_a_longer_file_in_the_place_of_many_blocks_is_indexed_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(10_000)))
    log = LogFile(path)
    assert len(contents(log)) == 10_000
    after = "another line\n" * 30_000
    path.write_text(after)
    assert contents(log) == after.splitlines()


def test_the_end_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(100_000, 200_000)))
    end = LogFile(path).last(10**6)
    assert len(end) > 1000
    assert {len(line) for line in end} == {len("12:00:00 step 100000")}


def test_deleted_and_back(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = LogFile(path)
    assert log.poll()
    assert "no log.txt" in log.problem
    assert not log.poll()
    path.write_text(numbered(1))
    assert contents(log) == ["12:00:00 step 1"]
    assert log.problem == ""
    path.unlink()
    assert log.poll()
    assert (log.num_lines, log.lines(0, 1), log.last(1)) == (0, [], [])
    path.write_text(numbered(1))
    assert contents(log) == ["12:00:00 step 1"]


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would hang
    for path in (tmp_path, tmp_path / "pipe"):
        log = LogFile(path)
        log.poll()
        assert "not a file" in log.problem


def test_gone_between_a_poll_and_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(100)))
    log = read_all(LogFile(path))
    path.write_text(numbered(5))
    assert log.lines(0, 3) == ["12:00:00 step 5"]
    assert log.lines(50, 3) == []
    path.unlink()
    assert log.lines(0, 3) == []


def test_nothing_that_a_terminal_acts_on_comes_through(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(
        b"\x1b[31mred\x07\x00\r\n\xff\xfe\xc3(\n\xc2\x9b2J \xe2\x80\xae\n\ta\tb\n" + "größe 日本\n".encode()
    )
    lines = contents(LogFile(path))
    assert lines == ["·[31mred··", "\ufffd\ufffd\ufffd(", "·2J ·", "    a   b", "größe 日本"]


def test_a_filter_is_an_expression_or_else_a_text(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("A Warning\nloss[0] = 1\nloss(0) = 2\nfailed\n")
    log = LogFile(path)
    for words, expected in {
        "warn|FAILED": [0, 3],
        r"loss\(": [2],
        "loss(": [2],
        "[0": [1],
        "none": [],
    }.items():
        assert [number for number, _ in matching(log, words)] == expected
    assert [text for _, text in matching(log, "^l")] == ["loss[0] = 1", "loss(0) = 2"]
    append(path, "late\n")
    assert [number for number, _ in matching(log, "^l")] == [1, 2, 4]
    log.filter(None)
    assert len(contents(log)) == 5


PER_CHUNK = 50_000  # lines


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 times a MiB, of which the last line is a warning."""
    path = tmp_path_factory.mktemp("large") / "log.txt"
    chunk = numbered(*range(100_000, 100_000 + PER_CHUNK - 1)).encode()
    with open(path, "wb") as file:
        for number in range(300):
            file.write(chunk + f"warning {number}\n".encode())
    return path


def test_a_large_file_is_followed_in_little_memory(large: Path) -> None:
    tracemalloc.start()
    log = LogFile(large)
    log.poll()
    assert log.behind
    assert log.last(1) == ["warning 299"]
    started = time.process_time()
    read_all(log)
    assert time.process_time() - started < 5
    assert log.num_lines == 300 * PER_CHUNK
    assert log.lines(log.num_lines - 1, 5) == ["warning 299"]
    assert log.lines(150 * PER_CHUNK - 1, 2) == ["warning 149", "12:00:00 step 100000"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_filter_that_matches_everywhere_takes_no_memory_either(large: Path) -> None:
    log = LogFile(large)
    tracemalloc.start()
    log.filter(compile_filter("STEP|warn"))
    log.poll()
    assert log.behind
    found = log.matches(log.num_matches - 50, 50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert log.num_matches > 3 * PER_CHUNK
    assert len(found) == 50
    assert peak < 4 * 2**20


# -- the pane ----------------------------------------------------------------------------------


class PaneApp(App[None]):
    CSS = "LogPane { height: 1fr; border: round white; padding: 0 0 0 1; }"

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.animation_level = "none"
        self.pane = LogPane(path)

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.query_one(LogView).focus()


Act = Callable[[PaneApp, Pilot[None]], Awaitable[None]]


def drive(path: Path | None, act: Act, size: tuple[int, int] = (60, 12)) -> None:
    """Let `act` use the pane once it shows what is there."""

    async def main() -> None:
        app = PaneApp(path)
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            await act(app, pilot)

    asyncio.run(main())


def screen_text(app: PaneApp) -> str:
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


async def settle(app: PaneApp, pilot: Pilot[None]) -> str:
    """The screen when polling changes it no more."""
    before = None
    while (text := screen_text(app)) != before or "read " in text:
        before = text
        app.pane.poll()
        for _ in range(2):  # a look may ask for another one
            await app.workers.wait_for_complete()
            await pilot.pause(0.015)
    return before


async def press(app: PaneApp, pilot: Pilot[None], *keys: str) -> str:
    await pilot.press(*keys)
    return await settle(app, pilot)


def test_follows_the_end_until_it_is_scrolled_up(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(1000)))

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert "1,000 lines · following" in text
        assert [f"step {number}" in text for number in (989, 990, 999)] == [False, True, True]
        append(path, numbered(1000))
        assert "step 1000" in await settle(app, pilot)
        view = app.pane.query_one(LogView)
        assert view.vertical_scrollbar.position == view.max_scroll_y
        assert view.vertical_scrollbar.window_virtual_size == 1001
        text = await press(app, pilot, "up", "up")
        assert "following" not in text
        append(path, numbered(1001, 1002))
        text = await settle(app, pilot)
        assert "step 998" in text.splitlines()[-2]
        assert "1,003 lines" in text
        for key in ("end", "G"):
            text = await press(app, pilot, "pageup", key)
            assert "step 1002" in text
            assert "following" in text

    drive(path, act)


def test_keys_and_wheel_reach_every_place(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(1000)))

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        def top() -> str:
            return screen_text(app).splitlines()[1].split()[3]

        for keys, expected in (
            (["home"], 0),
            (["down"], 1),
            (["pagedown"] * 5, 51),
            (["pageup"], 41),
            (["up"], 40),
            (["end"], 990),
            (["pageup"] * 4, 950),
            (["home"], 0),
        ):
            await press(app, pilot, *keys)
            assert top() == str(expected), keys
        await pilot._post_mouse_events([MouseScrollDown] * 2, LogView)
        await settle(app, pilot)
        assert int(top()) > 0

    drive(path, act)


def test_the_scroll_bar_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(1, 2))

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        view = app.pane.query_one(LogView)
        for number, shown in ((2, False), (300, True), (5, False), (50, True)):
            path.write_text(numbered(*range(number)))
            await settle(app, pilot)
            assert view.show_vertical_scrollbar == shown
            if shown:
                assert view.vertical_scrollbar.position == view.max_scroll_y == number - 10

    drive(path, act)


def test_long_lines_scroll_sideways(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("begin " + "日本" * 30 + " middle " + "x" * 10_000 + " never\nshort\n")

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        assert "middle" not in screen_text(app)
        text = await press(app, pilot, *["right"] * 10)
        assert "middle" in text
        assert "short" not in text
        assert "begin" in await press(app, pilot, "home")
        app.pane.query_one(LogView).scroll_to(x=99_999, animate=False)
        text = await settle(app, pilot)
        assert "x…" in text
        assert "never" not in text

    drive(path, act)


def test_a_filter_leaves_the_lines_that_match(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(numbered(i) + f"12:00:01 warning {i}\n" * (i % 100 == 7) for i in range(2000)))

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        text = await press(app, pilot, "slash", *"warn")
        assert '20 of 2,020 match "warn"' in text
        assert "step" not in text
        await press(app, pilot, "enter")
        append(path, "another warning\n")
        text = await settle(app, pilot)
        assert '21 of 2,021 match "warn"' in text
        assert "another warning" in text
        await press(app, pilot, "home", "down")  # at the warning of step 107
        text = await press(app, pilot, "escape")
        assert "2,021 lines" in text
        assert "following" not in text
        assert "warning 107" in text.splitlines()[1]
        assert "step 108" in text.splitlines()[2]
        assert not app.pane.query_one(Input).display

    drive(path, act)


def test_a_filter_may_be_anything_that_one_types(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("[red] one\n[/] two\n")

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        assert '2 of 2 match "["' in await press(app, pilot, "slash", "left_square_bracket")
        await press(app, pilot, "slash")
        text = await press(app, pilot, "right_square_bracket")
        assert '0 of 2 match "[/]"' in text or '1 of 2 match "[/]"' in text
        text = await press(app, pilot, *["backspace"] * 3)
        assert "2 lines · following" in text
        assert "[red] one" in text
        text = await press(app, pilot, *"nothing", "escape")
        assert "2 lines · following" in text

    drive(path, act)


def test_warnings_time_and_matches_stand_out(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("12:00:00 plain\n12:00:01 a Warning\nloss is not finite\n")

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        app.pane.query_one(Input).value = "n"
        await settle(app, pilot)
        lines = [app.pane.query_one(LogView).render_line(y) for y in range(3)]
        assert [line.text.rstrip() for line in lines] == path.read_text().splitlines()
        style = {segment.text.strip(): segment.style for line in lines for segment in line}
        assert style["12:00:00"].dim
        assert style["a War"].color == PALETTE[4].rich_color
        assert style["ot fi"].color == PALETTE[5].rich_color
        assert style["n"].reverse
        assert not style["plai"].reverse

    drive(path, act)


def test_cut_replaced_deleted_and_back_on_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        assert "no log.txt yet" in screen_text(app)
        path.write_text(numbered(*range(500)))
        assert "500 lines" in await settle(app, pilot)
        await press(app, pilot, *["pageup"] * 9)
        path.write_text(numbered(1, 2))
        assert "step 2" in await settle(app, pilot)
        other = tmp_path / "other.txt"
        other.write_text(numbered(*range(700, 800)))
        other.replace(path)
        text = await settle(app, pilot)
        assert "step 799" in text
        assert "100 lines · following" in text
        await press(app, pilot, "home")
        path.write_text(numbered(0))  # its end has come to where the view is
        await settle(app, pilot)
        append(path, numbered(*range(1, 50)))
        assert "step 49" in await settle(app, pilot)
        path.unlink()
        text = await settle(app, pilot)
        assert "no log.txt yet" in text
        assert "step" not in text
        assert "lines" not in text
        path.write_text("one line")
        text = await settle(app, pilot)
        assert "one line" in text
        assert "1 line · following" in text

    drive(path, act)


def test_another_file_is_shown(tmp_path: Path) -> None:
    (tmp_path / "first.txt").write_text(numbered(*range(50)))
    (tmp_path / "second.txt").write_text("other\n")

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        app.pane.show(tmp_path / "first.txt")
        assert "step 49" in await settle(app, pilot)
        await press(app, pilot, "home")
        app.pane.show(tmp_path / "second.txt")
        text = await settle(app, pilot)
        assert "other" in text
        assert "step" not in text

    drive(None, act)


def test_polls_in_quick_succession_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pane, "PERIOD", 60)
    path = tmp_path / "log.txt"
    path.touch()

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        for number in range(25):
            append(path, numbered(number))
            for _ in range(40):
                app.pane.poll()
                await asyncio.sleep(0)
            for _ in range(2):
                await app.workers.wait_for_complete()
                await pilot.pause(0.01)
            assert f"step {number}" in screen_text(app)

    drive(path, act)


def test_the_end_of_a_large_file_is_there_at_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pane, "PERIOD", 60)  # it does not wait for the next look
    monkeypatch.setattr(log_pane, "_LOOK", 0.1)

    async def main() -> None:
        app = PaneApp(large)
        async with app.run_test(size=(60, 12)) as pilot:
            started = time.process_time()  # it reads all the while, unless other programs do something
            while "read " not in screen_text(app):
                assert time.process_time() - started < 1
                await pilot.pause(0.01)
            assert "warning 299" in screen_text(app)
            while "15,000,000 lines · following" not in screen_text(app):
                assert time.process_time() - started < 8
                await pilot.pause(0.05)
            text = await press(app, pilot, "home")
            assert "step 100000" in text
            app.pane.query_one(Input).value = "warning [0-2]$"
            await pilot.pause(0.6)
            text = screen_text(app)
            assert "warning 2" in text
            assert "read " in text
            app.pane.query_one(Input).value = ""
            assert "warning 299" in await settle(app, pilot)

    asyncio.run(main())


def test_at_rest_nothing_is_repainted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pane, "PERIOD", 0.1)
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(100)))
    painted = []

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "slash", *"step")
        monkeypatch.setattr(app, "_display", lambda *_: painted.append(1))
        await pilot.pause(0.6)
        assert painted == []
        append(path, numbered(100))
        await until(pilot, lambda: painted)
        await pilot.pause(0.6)
        assert len(painted) <= 2  # not once a period: a slow machine may show line and count apart

    drive(path, act)


def test_looks_only_while_it_is_to_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pane, "PERIOD", 0.1)
    path = tmp_path / "log.txt"
    path.write_text(numbered(0))

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        def seen(number: int) -> bool:
            strips = [app.pane.query_one(LogView).render_line(y).text for y in range(9)]
            return any(f"step {number}" in strip for strip in strips)

        async def comes(number: int) -> None:
            append(path, numbered(number))
            await until(pilot, lambda: seen(number))

        async def stays_away(number: int) -> None:
            append(path, numbered(number))
            await pilot.pause(0.25)
            assert not seen(number)

        await comes(1)
        app.pane.display = False
        await stays_away(2)
        app.pane.display = True
        await comes(3)
        app.push_screen(Screen())
        await stays_away(4)
        app.pop_screen()
        await comes(5)

    drive(path, act)


@pytest.mark.parametrize("size", [(1, 1), (20, 5)])
def test_any_size_draws(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(100)) + "日本" * 200 + "\n")

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "home", "pagedown", "right", "slash", *"step", "enter", "up", "escape", "end")
        lines = screen_text(app).splitlines()
        assert len(lines) <= size[1]

    drive(path, act, size)


def test_resizing_keeps_the_end_or_the_place(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(numbered(*range(1000)))

    async def act(app: PaneApp, pilot: Pilot[None]) -> None:
        for keys in (["end"], ["pageup"] * 5):
            before = await press(app, pilot, *keys)
            for size in ((30, 8), (1, 1), (90, 50), (60, 12)):
                await pilot.resize_terminal(*size)
            assert await settle(app, pilot) == before

    drive(path, act)
