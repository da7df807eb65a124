"""`python -m di4c_cli` as a process: start-up, signals of the shell, colours."""

import os
import pty
import subprocess
import sys

import pytest

from di4c_cli import __version__
from di4c_cli.cli.app import COMMANDS

HEAVY = {"torch", "textual", "numpy", "torchvision", "matplotlib"}


def start(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "di4c_cli", *arguments],
        capture_output=True, text=True, env=environment, timeout=60, **options,
    )  # fmt: skip


def modules_of(*arguments: str) -> set[str]:
    """The top-level packages that a command line imports."""
    result = start(*arguments, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert result.returncode == 0, result.stderr
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["distill", "--help"], ["recipes"], ["runs"], ["--version"], []]
)
def test_light_commands_import_nothing_heavy(arguments):
    modules = modules_of(*arguments)
    assert "typer" in modules
    assert not modules & HEAVY


def of_children() -> float:
    """Processor time of all processes that were started here and have ended, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def test_help_answers_at_once_and_names_every_command():
    seconds = []
    for _ in range(3):  # the best of three, of processor time: other programs may be running
        began = of_children()
        result = start("--help")
        seconds.append(of_children() - began)
    assert min(seconds) < 0.8  # most of it Python, Typer and rich themselves
    for command in COMMANDS:
        assert f" {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0, result.output
    assert "--json" in result.stdout


def test_version_and_no_arguments(run):
    assert run("--version").stdout == f"di4c {__version__}\n"
    bare = run()
    assert (bare.exit_code, "distill" in bare.stdout) == (0, True)


def test_errors_go_to_stderr_with_their_code():
    result = start("distill", "toy", "--train.steps", "5")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "--train.steps 5: a recipe value is not an option (write train.steps=5)\n"


@pytest.mark.parametrize("arguments", [["recipes", "--json"], ["--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_drama(arguments, unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "di4c_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&-", 0), ("2>&-", 0), ("<&-", 0), ("2>/dev/full", 0), (">/dev/full", 1), (">&- 2>&- <&-", 0)],
)
def test_streams_that_are_closed_or_full(redirection, code):
    shell = ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, "-m", "di4c_cli", "runs", "--json"]
    result = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    full = "di4c: cannot write: No space left on device (make room and try again)\n"
    assert (result.returncode, result.stderr) == (code, full if code else "")


def test_narration_that_goes_nowhere_does_not_land_among_the_results():
    shell = 'exec "$@" 2>&-'
    line = [sys.executable, "-m", "di4c_cli", "runs"]  # says on stderr that there are none
    result = subprocess.run(["sh", "-c", shell, "sh", *line], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "")


def on_terminal(*arguments: str, **env: str) -> bytes:
    """What a command writes to a terminal."""
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | env
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "di4c_cli", *arguments],
        stdin=follower, stdout=follower, stderr=follower, env=environment,
    )  # fmt: skip
    os.close(follower)
    written = b""
    try:
        while piece := os.read(leader, 65536):
            written += piece
    except OSError:  # how Linux says that the other end has gone
        pass
    os.close(leader)
    process.wait(timeout=60)
    return written


def test_colours_where_they_are_wanted():
    assert b"\x1b[31m" in on_terminal("distill", TERM="xterm-256color")


@pytest.mark.parametrize("env", [{"TERM": "xterm-256color", "NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_where_they_are_not(env):
    written = on_terminal("distill", **env)
    assert b"which recipe?" in written
    assert b"\x1b[3" not in written


@pytest.mark.parametrize(
    "arguments", [["recipes", "check", "\x1b[2J.toml"], ["distill", "digits", "\x1b]0;a\x07=1"]]
)
def test_what_errors_quote_cannot_drive_the_terminal(arguments):
    result = start(*arguments)
    assert result.returncode == 2
    assert "\x1b" not in result.stdout + result.stderr
