"""What the monitor remembers, and that nothing in its file can do harm."""

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from canned_run import make_run
from driving import press

from di4c_cli.cli.monitor import monitor
from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.settings import SMOOTHING, Settings, settings_path


def use(run: RunDirectory, *keys: str, theme: str = "") -> str:
    """Open the monitor as a user would, press keys, and leave it; what was on the screen at the end."""

    async def main() -> str:
        app = MonitorApp(run.path.parent.parent, (run,))
        async with app.run_test(size=(120, 40)) as pilot:
            await settle(app, pilot)
            if theme:
                app.theme = theme
            await press(app, pilot, *keys)
            text = screen_text(app)
            await pilot.press("q")
        return text

    return asyncio.run(main())


def test_how_it_is_looked_at_is_remembered(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    use(run, "s", "y", "x", "c", "4", theme="nord")
    settings = Settings.load(settings_path())
    assert (settings.theme, settings.log_y, settings.axis) == ("nord", True, "time")
    assert (settings.columns, settings.side) == (3, "recipe")
    assert settings.smoothing == Settings().smoothing + 1
    text = use(run)
    assert "log y" in text
    assert "recipe" in text
    assert "previews" not in text


def test_the_path_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_path() == tmp_path / "state" / "di4c" / "monitor.json"
    monkeypatch.setenv("HOME", "/home/somebody")
    for unset in ("", "relative/to/nothing"):
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert settings_path() == Path("/home/somebody/.local/state/di4c/monitor.json")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert settings_path() == Path("/home/somebody/.local/state/di4c/monitor.json")


def test_a_user_without_a_home_has_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where nobody is known by that number
    Settings(theme="nord").save(settings_path())
    assert Settings.load(settings_path()) == Settings()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "[" * 100_000, '"text"', "\x00\xff",
        json.dumps({name: {"deep": []} for name in asdict(Settings())}),
        json.dumps(dict.fromkeys(asdict(Settings()), None)),
        '{"smoothing": 1' + 5000 * "0" + "}",
        '{"theme": "nord", "more": "' + 100_000 * "x" + '"}',
        json.dumps({"smoothing": True, "columns": "2", "theme": 3, "unknown": 1}),
    ],
)  # fmt: skip
def test_a_damaged_file_changes_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "monitor.json"
    path.write_text(content, encoding="latin-1")
    assert Settings.load(path) == Settings()


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    pipe, folder, endless = tmp_path / "pipe", tmp_path / "folder", tmp_path / "endless"
    os.mkfifo(pipe)  # to read it would be to wait for a writer
    folder.mkdir()
    endless.symlink_to("/dev/zero")
    for path in (pipe, folder, endless):
        assert Settings.load(path) == Settings()
    Settings(theme="nord").save(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "folder", "endless"}


def test_values_out_of_range_are_brought_back(tmp_path: Path) -> None:
    path = tmp_path / "monitor.json"
    path.write_text(
        json.dumps({"smoothing": 99, "columns": -5, "axis": "sideways", "theme": "gone", "side": "?"})
    )
    settings = Settings.load(path)
    assert settings.smoothing == len(SMOOTHING) - 1
    assert (settings.columns, settings.axis) == (1, "step")
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text(path.read_text())
    assert "loss" in use(make_run(tmp_path / "runs"))  # an unknown theme and pane do no harm


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert "loss" in use(make_run(tmp_path / "runs"), "s")


def test_once_neither_reads_nor_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs")
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text(json.dumps({"side": "recipe", "log_y": True}))
    before = settings_path().stat().st_mtime_ns
    monitor([], root=tmp_path / "runs", once=True)
    text = capsys.readouterr().out
    assert "previews at step" in text
    assert "log y" not in text
    assert settings_path().stat().st_mtime_ns == before
