"""The command: one frame as text, and what it refuses."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from canned_run import make_run

from di4c_cli.cli.monitor import monitor
from di4c_cli.errors import UsageError

REPOSITORY = Path(__file__).parents[2]
CALL = """
import sys
from pathlib import Path
from di4c_cli.cli.monitor import monitor
monitor(sys.argv[2:], root=Path(sys.argv[1]), once=True)
heavy = {"torch", "numpy", "di4c_cli.core", "di4c_cli.recipe"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CALL, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_once_prints_the_newest_run_and_imports_no_torch(tmp_path: Path) -> None:
    make_run(tmp_path, role="teacher", state="finished")
    make_run(tmp_path)
    done = call(str(tmp_path), COLUMNS="120", LINES="40")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 40
    assert max(map(len, lines)) <= 120
    assert "digits/student-1" in lines[0]
    assert "\x1b" not in done.stdout
    assert any("⠀" <= char <= "⣿" for char in done.stdout)


def test_once_fits_the_terminal_and_an_old_code_page(tmp_path: Path) -> None:
    make_run(tmp_path, role="teacher", state="finished")
    done = call(str(tmp_path), "digits/teacher-1", COLUMNS="20", LINES="5", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 20


def once(root: Path, *runs: str, capsys: pytest.CaptureFixture[str]) -> str:
    monitor(list(runs), root=root, once=True)
    return capsys.readouterr().out


def test_once_lists_several_runs_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for recipe in ("digits", "mnist", "toy"):
        make_run(tmp_path, recipe=recipe, previews=())
    listed = once(tmp_path, "toy/student-1", "digits/student-1", capsys=capsys)
    assert "toy/student-1" in listed
    assert "digits/student-1" in listed
    assert "mnist" not in listed
    assert "mnist/student-1" in once(tmp_path, str(tmp_path / "mnist" / "student-1"), capsys=capsys)
    assert "no runs below" in once(tmp_path / "empty", capsys=capsys)


@pytest.mark.parametrize("name", ["digits/student-9", "nothing", "latest"])
def test_a_run_that_is_not_there_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        monitor([name], root=tmp_path, once=True)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_without_a_terminal_it_points_to_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="terminal"):
        monitor([], root=tmp_path)
