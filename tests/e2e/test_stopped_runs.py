"""Runs that are killed or interrupted: nothing is lost, and resumed they end where they would have."""

import fcntl
import json
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from exact import DISTILL, LOG_EVERY, RUNS, SAVE_EVERY, STEPS, assert_same_run, differing
from program import TINY, TINY_TEACHER, Program, hear_signals

from di4c_cli import pipeline, recipe_file, shipped
from di4c_cli.core.trainer import Trainer
from di4c_cli.errors import UsageError
from di4c_cli.runs import RunDirectory


def last_step(run: RunDirectory) -> int:
    return max((row["step"] for row in run.metrics()), default=0)


def wait_for(run: RunDirectory, process: "subprocess.Popen[str]", step: int) -> None:
    """Until a run has logged a step."""
    while last_step(run) < step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def stopped(program: Program, run: RunDirectory, args: list[str], step: int, number: int) -> tuple[int, str]:
    """Start a command, send it a signal at about a step, and give its exit code and stderr."""
    with program.started(*args) as process:
        wait_for(run, process, step)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.slow  # tests/e2e/test_crashes.py kills a shorter run more often
@pytest.mark.parametrize(("command", "kills"), [("distill", 2), ("train-teacher", 1)])
def test_a_killed_run_ends_where_it_would_have(program, uninterrupted, command, kills):
    args, name = RUNS[command]
    run = RunDirectory(program.runs / name)
    kill_at = sorted(random.sample(range(SAVE_EVERY, STEPS // 2), kills))
    for number, step in enumerate(kill_at):
        code, _ = stopped(program, run, [args[0], "--resume", name] if number else args, step, signal.SIGKILL)
        assert (code, run.final.exists()) == (-signal.SIGKILL, False), kill_at
        assert run.status().visible_state == "stale"

    # what a kill in the middle of a write leaves behind
    with open(run.metrics_path, "a", encoding="utf-8") as file:
        file.write('{"step": 59')
    for half in (run.path / f"step-{STEPS - SAVE_EVERY}.tmp", run.path / "step-1.tmp"):
        half.mkdir()
        (half / "model.safetensors").write_bytes(b"half of it")
    (run.path / ".status.json.1.tmp").write_text("{", encoding="utf-8")

    program.ok(args[0], "--resume", "latest")
    assert_same_run(run, uninterrupted(command))
    assert not list(run.path.glob("*.tmp"))


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_begins_again(program, uninterrupted):
    args, name = [*DISTILL, "train.save_every=10000"], "toy/student-1"
    run = RunDirectory(program.runs / name)
    stopped(program, run, args, STEPS // 4, signal.SIGKILL)
    assert run.checkpoints() == []
    program.ok("distill", "--resume", name)
    assert_same_run(run, uninterrupted("distill"))


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),  # as a test below presses it twice
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_says_how_to_go_on(program, uninterrupted, number, exit_code):
    run = RunDirectory(program.runs / "toy/student-1")
    code, err = stopped(program, run, DISTILL, random.randrange(10, STEPS // 2), number)
    assert code == exit_code
    assert "Traceback" not in err
    assert f"--resume {run.path}" in err.splitlines()[-1]
    status, newest = run.status(), run.checkpoints()[-1]
    assert status.state == "interrupted"
    assert newest.name == f"step-{status.step}"
    assert (run.path / "latest").read_text(encoding="utf-8") == f"{newest.name}\n"
    assert not run.final.exists()
    program.ok("distill", f"--resume={run.path}")
    # the line being averaged at the stop begins anew, so only the weights are compared
    assert differing(run.final, uninterrupted("distill").final) == []
    assert [row["step"] for row in run.metrics()] == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))


def test_two_processes_never_write_one_run(program):
    """The lock holds whatever status.json says, and is gone with its process."""
    run = RunDirectory(program.runs / "toy/student-1")
    with program.started(*DISTILL[:2], *DISTILL[2:], "train.steps=100000") as process:
        wait_for(run, process, 10)
        status = run.status()
        assert program("distill", "--resume", "latest").code == 2  # as status.json says
        status.state = "interrupted"
        run.write_status(status)
        outcome = program("distill", "--resume", "latest")
        assert outcome.code == 2
        assert f"is still running (process {process.pid} on " in outcome.complaint[-1]
        process.kill()
        process.wait()
    step = run.status().step
    program.ok("distill", "--resume", "latest", f"train.steps={step + 50}")


def test_a_student_that_starts_from_data_does_so_again(program):
    """Killed before its first checkpoint, it has only the recipe to begin with."""
    small = [
        "student.start_rounds=2",
        "student.components=4",
        "student.start_windows=64",
        "train.steps=20",
        "train.batch_size=8",
    ]
    small += ["train.log_every=5", "preview.every=0", "metrics=[]"]
    program.ok("distill", "digits_windowed", *small, "--name", "whole", "--teacher", "digits")
    kill = KILL_AT_30.replace("30", "10")
    line = ["distill", "digits_windowed", *small, "--name", "halved", "--teacher", "digits"]
    assert program(*line, prelude=kill).code == -signal.SIGKILL
    program.ok("distill", "--resume", "digits_windowed/halved")
    folders = [program.runs / "digits_windowed" / name / "final" for name in ("whole", "halved")]
    assert differing(*folders) == []


def test_a_second_ctrl_c_stops_at_once(program):
    """Here one step takes minutes: nothing is saved, and the run says that it was interrupted."""
    heavy = ["train.batch_size=200000", "train.accumulate=5000", "preview.every=0", "metrics=[]"]
    run = RunDirectory(program.runs / "toy/student-1")
    with program.started("distill", "toy", *heavy) as process:
        while not run.log_path.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(0.5)  # the log begins just before the signals are listened to
        process.send_signal(signal.SIGINT)
        time.sleep(2)  # two within one call of C would be heard as one
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert run.status().state == "interrupted"
    assert run.checkpoints() == []


def own_terminal() -> None:
    """The new session's, whose end its processes hear of."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    hear_signals()


def test_a_terminal_that_is_closed_saves_the_run(program):
    """As where a connection breaks: there is no terminal any more to tell it to."""
    run = RunDirectory(program.runs / "toy/student-1")
    line = ["distill", "toy", *TINY, "train.steps=100000", "train.save_every=100000"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "di4c_cli", *line],
        cwd=program.home,
        env=program.environment(TERM="xterm"),
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    while last_step(run) < 60:
        assert process.poll() is None
        with suppress(BlockingIOError):
            assert b"Traceback" not in os.read(ours, 2**20)
        time.sleep(0.05)
    os.close(ours)
    assert process.wait(60) == 128 + signal.SIGHUP
    assert run.status().state == "interrupted"
    assert run.checkpoints()[-1].name == f"step-{run.status().step}"


def test_ctrl_c_outside_training_is_no_traceback(program):
    with program.started("eval", "toy", "--steps", "1,5000", "--num", 10) as process:
        assert "1/2" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


KILL_AT_30 = """
import os, signal
from di4c_cli.runs import RunDirectory
append = RunDirectory.append_metrics
def append_metrics(run, row):
    append(run, row)
    if row["step"] == 30:
        os.kill(os.getpid(), signal.SIGKILL)
RunDirectory.append_metrics = append_metrics
"""


def test_a_resumed_run_keeps_the_teacher_it_was_given(program):
    """A newer teacher, or the shipped one, must not take over halfway."""
    given = program.ok("train-teacher", "digits", *TINY_TEACHER, "--name", "given", "--json").json
    settings = ["network.width=16", "student.num_latents=4", "train.batch_size=8", "train.steps=40"]
    settings += ["train.log_every=10", "train.save_every=20", "preview.every=0", "metrics=[]"]
    distill = ["distill", "digits", *settings, "--teacher", given["run"]]
    program.ok(*distill, "--name", "whole")
    assert program(*distill, "--name", "halved", prelude=KILL_AT_30).code == -signal.SIGKILL
    program.ok("train-teacher", "digits", *TINY_TEACHER, "teacher.train.seed=1")  # now the newest one
    program.ok("distill", "--resume", "digits/halved")
    assert differing(*(program.runs / "digits" / name / "final" for name in ("whole", "halved"))) == []


# -- the control: with a part of resuming taken away, the weights differ -------------------------


def forget_the_optimiser(trainer: Trainer) -> None:
    trainer.optimizer.state.clear()


def forget_the_average(trainer: Trainer) -> None:
    trainer.ema = type(trainer.ema)(trainer.model, trainer.config.ema)


def forget_the_step(trainer: Trainer) -> None:
    trainer.step -= 1


def forget_the_weights(trainer: Trainer) -> None:
    with torch.no_grad():
        for parameter in trainer.parameters:
            parameter.add_(1e-3)


def forget_nothing(trainer: Trainer) -> None:
    """The control of the control."""


class Killed(BaseException):
    """Stands for SIGKILL in this process."""


def trained(*more: str, resume: RunDirectory | None = None, killed_at: int | None = None) -> Path:
    """The toy for 40 steps, in this process; a checkpoint every 10."""

    def kill(step: int, steps: int, row: dict) -> None:
        if step == killed_at:
            raise Killed

    overrides = ["network.width=16", "network.depth=2", "student.num_latents=4", "train.batch_size=8"]
    overrides += ["preview.every=0", "train.steps=40", "train.log_every=5", "train.save_every=10"]
    loaded = recipe_file.load(shipped.find_recipe("toy"), [*overrides, *more])
    result = pipeline.train(loaded, role="student", device="cpu", resume=resume, progress=kill)
    return Path(result["checkpoint"])


@pytest.mark.parametrize(
    "forget",
    [forget_nothing, forget_the_optimiser, forget_the_average, forget_the_step, forget_the_weights],
)
def test_every_part_of_resuming_is_needed(monkeypatch, forget):
    whole = trained()
    with pytest.raises(Killed):
        trained(killed_at=25)
    resume = Trainer.resume

    def resume_badly(trainer: Trainer, folder: Path) -> None:
        assert folder.name == "step-20"
        resume(trainer, folder)
        forget(trainer)

    monkeypatch.setattr(Trainer, "resume", resume_badly)
    resumed = trained(resume=RunDirectory.resolve("toy/student-2"))
    assert bool(differing(whole, resumed)) == (forget is not forget_nothing)


def test_a_finished_run_lists_no_step_twice_in_its_log(uninterrupted):
    run = uninterrupted("distill")
    assert json.loads((run.path / "status.json").read_text(encoding="utf-8"))["state"] == "finished"
    assert [path.name for path in run.checkpoints()] == ["step-200", "step-240"]  # `keep` of them


def test_a_resume_neither_goes_back_nor_begins_again():
    with pytest.raises(Killed):
        trained(killed_at=25)
    run = RunDirectory.resolve("toy/student-1")
    with pytest.raises(UsageError, match=r"is at step 20, train\.steps is 15 \(set it to 20 or more\)"):
        trained("train.steps=15", resume=run)
    assert not run.final.exists()
    trained("train.steps=20", resume=run)  # may end where it is
    assert [row["step"] for row in run.metrics()] == [5, 10, 15, 20]
    trained("train.steps=30", resume=run)
    assert "resuming toy/student-1 at step 20" in run.log_path.read_text()
    for folder in run.checkpoints():
        run.forget(folder)
    with pytest.raises(UsageError, match=r"has only its finished model, no step-<N> to go on from"):
        trained("train.steps=40", resume=run)
    assert run.final.is_dir()


GONE = """
import shutil
from di4c_cli.runs import RunDirectory
append = RunDirectory.append_metrics
def append_metrics(run, row):
    shutil.rmtree(run.path)
    append(run, row)
RunDirectory.append_metrics = append_metrics
"""


def test_a_run_whose_folder_is_deleted_ends_in_a_line(program):
    outcome = program("distill", "toy", *TINY, "network.depth=2", "--quiet", prelude=GONE)
    assert outcome.code == 1
    told = f"{program.runs}/toy/student-1: the folder of the run is gone (it was moved or removed)"
    assert outcome.complaint == [told]
