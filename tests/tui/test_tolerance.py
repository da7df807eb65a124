"""Whatever becomes of a run while it is watched, the monitor shows what there is, and goes on."""

import json
import os
import shutil
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from canned_run import make_run, training_row, write_previews
from driving import drive, press, refresh, watch
from textual.pilot import Pilot

from di4c_cli.runs import STALE_AFTER, RunDirectory, Status
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.messages import MetricsArrived, StatusArrived
from di4c_cli.tui.tail import RunsTail, RunTail, read_facts

HOUR = 3600.0
DEAD = 2**22 + 1  # above every process number


def write_status(run: RunDirectory, **changes: Any) -> None:
    """As `RunDirectory.write_status`, but the heartbeat too is what is said."""
    content = asdict(run.status()) | changes
    (run.path / "status.json").write_text(json.dumps(content))


def state(run: RunDirectory) -> str:
    return read_facts(run, {}).state


def write_values(run: RunDirectory, values: Any) -> None:
    (run.path / "resolved.json").write_text(json.dumps({"values": values}))


# -- alive or not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"heartbeat": -STALE_AFTER - 5}, "stale"),
        ({"heartbeat": -STALE_AFTER + 20}, "running"),
        ({"pid": DEAD}, "stale"),
        ({"pid": DEAD, "host": "another"}, "running"),  # nobody can know
        ({"pid": DEAD, "host": "another", "heartbeat": -HOUR}, "stale"),
        ({"pid": 1, "heartbeat": -HOUR}, "stale"),  # the number has gone to another process
        ({"pid": os.getpid()}, "running"),
        ({"pid": -1}, "running"),  # never asked for: it would mean all processes
        ({"heartbeat": +HOUR}, "running"),  # the clock was put back since
        ({"heartbeat": +HOUR, "pid": DEAD}, "stale"),
        ({"state": "finished", "heartbeat": -HOUR, "pid": DEAD}, "finished"),
    ],
)
def test_a_run_that_has_stopped_breathing_is_stale(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    run = make_run(tmp_path, rows=1, previews=())
    heartbeat = time.time() + changes.pop("heartbeat", 0.0)
    write_status(run, **({"host": socket.gethostname()} | changes), heartbeat=heartbeat)
    assert state(run) == expected == run.status().visible_state


@pytest.mark.parametrize("name", ["heartbeat", "started", "step", "steps", "pid", "elapsed", "eta"])
@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-1e400", "1" + 400 * "0", '"soon"', "[]", "true", "null"]
)
def test_a_figure_of_the_status_that_is_none_does_no_harm(tmp_path: Path, name: str, value: str) -> None:
    run = make_run(tmp_path, rows=1, previews=())
    text = json.dumps(asdict(run.status()) | {name: "VALUE"})
    (run.path / "status.json").write_text(text.replace('"VALUE"', value))
    facts = read_facts(run, {})
    assert facts.state == ("stale" if name == "heartbeat" else "running")
    assert facts.updated == pytest.approx(time.time(), abs=60)
    assert all(abs(number) < 1e9 for number in (facts.started, facts.pid, facts.elapsed, facts.eta or 0.0))
    (listed,) = RunsTail(tmp_path).poll()
    assert [other.name for other in listed.runs] == ["digits/student-1"]


def test_it_breathes_again_after_a_pause(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    write_status(run, heartbeat=time.time() - HOUR)  # as after the lid of a laptop was closed

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "● stale" in screen_text(app)
        run.write_status(run.status())
        assert "● running" in await refresh(app, pilot)

    drive(watch(run), act)


# -- other machines, other names ---------------------------------------------------------------


def test_a_copy_of_another_machines_run_shows_all_of_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "there")
    write_status(run, state="finished", host="cluster", pid=os.getpid(), heartbeat=time.time() - 48 * HOUR)
    write_values(run, {"train.steps": {"value": 1000, "origin": "override"}})
    copy = RunDirectory(tmp_path / "here" / "any" / "name")
    shutil.copytree(run.path, copy.path)  # written just now, as far as the files can tell

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        for piece in ("● finished", "any/name", "step 600/1,000", "previews at step 600", "distillation"):
            assert piece in text
        assert "train.steps" in await press(app, pilot, "4")
        assert "on host cluster" in await press(app, pilot, "6")
        assert "2 d" in await press(app, pilot, "escape")

    drive(watch(copy), act)


@pytest.mark.parametrize(
    "name", ["di\x1b[2Jgits", "zwei\nzeilen", "[red]rot", "数字", "x" * 200, b"\xff\xfe"]
)
def test_names_from_outside_stay_within_their_line(tmp_path: Path, name: str | bytes) -> None:
    folder = Path(os.fsdecode(name))
    try:
        (tmp_path / folder).mkdir()
    except OSError:
        pytest.skip("no such names on this file system")
    run = make_run(tmp_path, recipe=str(folder), previews=())
    write_status(run, recipe="a\x1b]0;b\x07", role="r\nr", message="line\nnext \x1b[31m", state="failed")

    other = make_run(tmp_path, recipe=str(folder), previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        texts = [screen_text(app), await press(app, pilot, "escape")]
        app.compare((run, other))
        for text in (*texts, await settle(app, pilot)):
            assert "student-1" in text
            assert not any("\x00" <= char < " " and char != "\n" for char in text)
            assert text.encode()  # a terminal must be able to take it
            assert len(text.split("\n")) == 40  # the last may be empty yet

    drive(watch(run), act, (320, 40))


def test_whatever_else_lies_below_the_root_hides_no_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, rows=1, previews=())
    (tmp_path / "notes.md").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "digits" / "student-loop").symlink_to("student-loop")
    (tmp_path / "digits" / "student-9" / "status.json").mkdir(parents=True)
    (tmp_path / "digits" / "again").symlink_to("student-1")
    assert {found.path for found in RunDirectory.find_all(tmp_path)} == {
        run.path, tmp_path / "digits" / "again",
    }  # fmt: skip
    assert RunDirectory.find_all(tmp_path / "notes.md") == RunDirectory.find_all(tmp_path / "none") == []


# -- files -------------------------------------------------------------------------------------


def test_a_rotated_file_is_followed_into_the_new_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        run.metrics_path.rename(run.path / "metrics.jsonl.1")
        assert "distillation" in await refresh(app, pilot)  # what was read stays meanwhile
        run.append_metrics({"step": 610, "loss": 9.25})
        text = await refresh(app, pilot)
        assert "loss 9.25" in text
        assert list(app.screen.history.steps) == [610]
        run.append_metrics({"step": 620, "loss": 8.5})
        assert "loss 8.5" in await refresh(app, pilot)

    drive(watch(run), act)


def test_a_run_that_goes_on_from_an_earlier_step_draws_its_newer_branch(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=(300, 600))

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for step in range(310, 360, 10):
            run.append_metrics(training_row(step, 1000, "student") | {"loss": 5.5})
        write_status(run, step=350, heartbeat=time.time())
        text = await refresh(app, pilot)
        assert "step 350/1,000" in text
        assert "loss 5.5" in text
        history = app.screen.history
        assert history.last_step == 350
        assert list(history.steps) == sorted(history.steps)
        write_previews(run, 350, [[[255] * 8] * 8])
        assert "previews at step 600" in await refresh(app, pilot)

    drive(watch(run), act)


def test_an_emptied_file_takes_its_figures_along(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    tail = RunTail(run)
    tail.poll()
    run.metrics_path.write_text("")
    told = tail.poll()
    assert any(isinstance(item, MetricsArrived) and item.restarted for item in told)
    facts = next(item.facts for item in told if isinstance(item, StatusArrived))
    assert (facts.loss, facts.samples_per_s) == (None, None)


def test_the_list_takes_each_figure_from_the_last_row_that_has_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 601, "loss": 0.25}\n{"step": 602, "memory_mb": 5}\n[1]\n{"step": 603, "lo')
    (listed,) = RunsTail(tmp_path).poll()
    assert listed.runs[0].loss == 0.25
    assert listed.runs[0].samples_per_s == training_row(600, 1000, "student")["samples_per_s"]


def test_a_deleted_run_that_is_started_anew_is_another_one(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        shutil.rmtree(run.path)
        assert "deleted" in await refresh(app, pilot)
        make_run(tmp_path, step=50, rows=5, previews=())
        text = await refresh(app, pilot)
        assert "● running" in text
        assert "step 50/1,000" in text
        assert app.screen.history.last_step == 50
        assert f"loss {figure(training_row(50, 1000, 'student')['loss'])}" in text

    drive(watch(run), act)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"values": 3}', '{"values": {"a": 1}}', "[" * 100_000])
def test_damaged_values_are_none_until_they_are_whole(tmp_path: Path, content: str) -> None:
    run = make_run(tmp_path, previews=())
    (run.path / "resolved.json").write_text(content)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "train.steps" not in await press(app, pilot, "4")
        write_values(run, {"train.steps": {"value": [1, None], "origin": "default"}})
        assert "[1, null]" in await refresh(app, pilot)

    drive(watch(run), act)


def test_sample_folders_without_pictures_are_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=(300,))
    samples = run.path / "samples"
    (samples / "step-400").mkdir()
    (samples / "step-450").write_text("a file")
    (samples / "step-x").mkdir()
    (samples / "step-500").mkdir()
    (samples / "step-500" / "notes.md").write_text("nothing to see")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "previews at step 300" in screen_text(app)
        shutil.rmtree(samples / "step-500")
        write_previews(run, 500, [[[255] * 8] * 8])
        assert "previews at step 500" in await refresh(app, pilot)
        shutil.rmtree(samples)
        assert "● running" in await refresh(app, pilot)

    drive(watch(run), act)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_that_may_not_be_read_are_as_if_they_were_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for name in ("metrics.jsonl", "samples"):
        (run.path / name).chmod(0)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "step 600/1,000" in screen_text(app)
        for name, mode in (("metrics.jsonl", 0o600), ("samples", 0o700)):
            (run.path / name).chmod(mode)
        text = await refresh(app, pilot)
        assert "distillation" in text
        assert "previews at step 600" in text

    drive(watch(run), act)


def test_status_survives_a_round_trip(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    status = Status(recipe="digits", role="student", step=7, steps=9, pid=3, host="h", elapsed=1.5, eta=None)
    run.write_status(status)
    assert run.status() == status
