"""Progress, tables and JSON as they reach a pipe, a log file and a terminal."""

import io
import json
import math
import sys
from pathlib import Path

import pytest

from di4c_cli.cli import comparison, console
from di4c_cli.core import progress as core_progress
from di4c_cli.errors import RecipeError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_ten_seconds_and_the_last(capsys, clock):
    with console.Progress("distill toy") as progress:
        for step in range(200, 301):  # a resumed run: the first 200 steps cost nothing
            progress(step, 300, {"loss": 0.12345, "samples_per_s": 1234.5})
            clock[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "distill toy: 200/300, loss 0.1235, 1234 samples/s"
    assert lines[1] == "distill toy: 210/300, loss 0.1235, 1234 samples/s, 1:30 left"
    assert lines[-1] == "distill toy: 300/300, loss 0.1235, 1234 samples/s"
    assert len(lines) == 11


def test_quiet_is_quiet(capsys, clock):
    with console.Progress("x", quiet=True) as progress:
        progress(1, 2, {})
        progress.narrate("a word")
    assert capsys.readouterr().err == ""


def test_evaluations_say_where_they_are(capsys, clock):
    console.Progress("eval toy")(3, 8, {"model": "student", "steps": 4, "seed": 0, "metrics": {}})
    assert capsys.readouterr().err == "eval toy: 3/8, student at K = 4\n"


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with console.Progress("distill toy") as progress:
        progress(1, 4, {"loss": 0.5})
        progress(4, 4, {"loss": 0.25})
    assert "4/4" in screen.getvalue()
    assert "━" in screen.getvalue()
    assert "loss 0.25" in screen.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with console.Progress("distill toy") as progress:
        progress(4, 4, {"loss": 0.25})
    assert screen.getvalue() == "distill toy: 4/4, loss 0.25\n"


def test_a_reader_of_stderr_who_left_stops_nothing(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    console.Progress("x")(1, 1, {})


def test_errors_stay_on_one_line_as_they_are(capsys):
    message = "a[b].toml:3: x: " + "long " * 60 + ":smile: [red]"
    console.error(RecipeError(message, "a hint"))
    assert capsys.readouterr().err == f"{message} (a hint)\n"


def test_json_is_strict(capsys):
    console.print_json({"a": [math.nan, math.inf, 1.5], "path": Path("x/y"), 3: "é"})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [None, None, 1.5], "path": "x/y", "3": "é",
    }  # fmt: skip


def test_tables_in_a_pipe_are_not_cut(capsys):
    console.print_table(["name", "n"], [["x" * 300, 1], ["[b]y", 22]], numbers=["n"])
    out = capsys.readouterr().out
    assert "x" * 300 in out
    assert "[b]y" in out


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3661, "1:01:01")])
def test_clock(seconds, text):
    assert console.clock(seconds) == text


def test_a_comparison_where_only_ascii_can_be_printed(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    row = {"model": "student", "steps": 1, "nfe": 1, "num": 2, "seconds_per_sample": 0.1}
    rows = [row | {"seed": seed, "metrics": {"fd": float(seed)}} for seed in (1, 3)]
    comparison.print_comparison({"source": "x", "reference": {}, "directions": {"fd": "lower"}, "rows": rows})
    out.flush()
    text = out.buffer.getvalue().decode("ascii")
    assert "fd (lower)" in text
    assert "2 +- 1.4" in text


def test_work_that_core_code_reports_has_a_line_of_its_own(capsys):
    with console.Progress("distill x", interval=0.0) as progress:
        for done in (1, 2):
            core_progress.report(done, 2, "tokens of a.txt")
        core_progress.remark("3 images could not be read")
        progress(1, 4, {})
    core_progress.report(1, 2, "nobody listens any more")
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == [
        "tokens of a.txt", "tokens of a.txt", "3 images could not be read", "distill x"
    ]  # fmt: skip
    assert told[1].startswith("tokens of a.txt: 2/2")


def test_quiet_work_says_nothing(capsys):
    with console.Progress("distill x", quiet=True):
        core_progress.report(1, 2, "tokens")
        core_progress.remark("something")
    assert capsys.readouterr().err == ""
