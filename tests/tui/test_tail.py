"""Following files that are written, cut, replaced and deleted meanwhile."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from canned_run import blob, make_run, training_row, write_grid, write_previews, write_texts

from di4c_cli.runs import RunDirectory
from di4c_cli.tui import lines as json_lines
from di4c_cli.tui.lines import Increment, JsonLinesTail
from di4c_cli.tui.messages import MetricsArrived, PreviewsArrived, RunsListed, StatusArrived
from di4c_cli.tui.tail import RunsTail, RunTail


def find(messages: list[Any], kind: type) -> Any:
    return next((message for message in messages if isinstance(message, kind)), None)


def lines(*steps: int) -> str:
    return "".join(json.dumps({"step": step}) + "\n" for step in steps)


def steps(increment: Increment) -> list[int]:
    return [row["step"] for row in increment.rows]


# -- one file ----------------------------------------------------------------------------------


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follow = JsonLinesTail(path)
    assert follow.poll() == Increment([])  # not there yet
    path.write_text(lines(1, 2) + '{"step": ')
    assert steps(follow.poll()) == [1, 2]
    assert follow.poll() == Increment([])
    with open(path, "a") as file:
        file.write("3}\n")
    assert steps(follow.poll()) == [3]


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'\xff\x00garbage\n\n[1]\n{"step": 1}\n' + b"[" * 100_000 + b'\n{"step": 2}\n')
    assert steps(JsonLinesTail(path).poll()) == [1, 2]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (lines(1, 2), [1, 2]),  # cut back by a resume
        (lines(7, 8, 9, 10, 11, 12), [7, 8, 9, 10, 11, 12]),  # replaced by a longer file
        ("", []),  # emptied
    ],
)
def test_another_file_is_read_anew(tmp_path: Path, after: str, expected: list[int]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2, 3, 4))
    follow = JsonLinesTail(path)
    follow.poll()
    path.write_text(after)
    increment = follow.poll()
    assert increment.restarted
    assert steps(increment) == expected


def test_a_vanished_file_is_no_news_and_may_come_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1))
    follow = JsonLinesTail(path)
    follow.poll()
    path.unlink()
    assert follow.poll() == Increment([])
    path.write_text(lines(5))
    assert follow.poll() == Increment([{"step": 5}], restarted=True)


def test_a_long_file_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "CHUNK", 64)
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(*range(50)))
    follow, seen, polls = JsonLinesTail(path), [], 0
    while follow.behind or not polls:
        seen += steps(follow.poll())
        polls += 1
    assert seen == list(range(50))
    assert polls > 10


# -- one run -----------------------------------------------------------------------------------


def test_the_first_poll_tells_everything_and_the_next_nothing(tmp_path: Path) -> None:
    follow = RunTail(make_run(tmp_path, step=600, steps=1000, rows=60))
    messages = follow.poll()
    assert len(find(messages, MetricsArrived).batches[0].steps) == 60
    facts = find(messages, StatusArrived).facts
    assert (facts.state, facts.name, facts.step, facts.steps) == ("running", "digits/student-1", 600, 1000)
    assert facts.loss == pytest.approx(training_row(600, 1000, "student")["loss"])
    arrived = find(messages, PreviewsArrived)
    assert (arrived.steps, arrived.step) == ((300, 600), 600)
    assert [(p.steps, p.role) for p in arrived.previews[:3]] == [
        (1, "teacher"),
        (1, "student"),
        (2, "teacher"),
    ]
    assert follow.poll() == []


def test_previews_follow_the_newest_unless_another_is_wanted(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=(300,))
    follow = RunTail(run)
    follow.poll()
    (run.path / "samples" / "step-600").mkdir()  # just made, still empty
    assert follow.poll() == []
    write_grid(run.path / "samples" / "step-600" / "student-1.png", [blob(0)])
    assert find(follow.poll(), PreviewsArrived).step == 600
    follow.wanted = 300
    assert find(follow.poll(), PreviewsArrived).step == 300
    write_previews(run, 900, [blob(0)])
    assert find(follow.poll(), PreviewsArrived).steps == (300, 600, 900)


def test_a_half_written_picture_comes_when_it_is_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=(300,))
    path = run.path / "samples" / "step-300" / "student-4.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    follow = RunTail(run)
    assert find(follow.poll(), PreviewsArrived).previews[-1].tiles == ()
    path.write_bytes(whole)
    assert len(find(follow.poll(), PreviewsArrived).previews[-1].tiles) == 12


def test_text_previews_lose_their_control_characters(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    write_texts(run, 100, ["plain", "es\x1b[31mcape"])
    previews = find(RunTail(run).poll(), PreviewsArrived).previews
    assert previews[-1].lines == ("plain", "es·[31mcape")


def test_a_run_that_appears_and_disappears(tmp_path: Path) -> None:
    follow = RunTail(RunDirectory(tmp_path / "digits" / "student-1"))
    assert find(follow.poll(), StatusArrived).facts.state == "waiting"
    run = make_run(tmp_path)
    assert find(follow.poll(), StatusArrived).facts.state == "running"
    shutil.rmtree(run.path)
    facts = find(follow.poll(), StatusArrived).facts
    assert (facts.state, facts.step) == ("deleted", 600)
    assert follow.poll() == []


@pytest.mark.parametrize(
    "status",
    [
        "",
        "[]",
        "{",
        '{"state": 3, "step": "x", "steps": null, "pid": 1e30, "heartbeat": "now", "eta": "soon"}',
        '{"state": "running", "step": NaN, "steps": Infinity, "pid": -1, "heartbeat": null, "message": null}',
    ],
)
def test_a_damaged_status_does_no_harm(tmp_path: Path, status: str) -> None:
    run = make_run(tmp_path, previews=())
    (run.path / "status.json").write_text(status)
    with open(run.metrics_path, "a") as file:
        file.write('{"loss": "?", "samples_per_s": [], "memory_mb": true}\n')
    facts = find(RunTail(run).poll(), StatusArrived).facts
    assert (facts.step, facts.steps) == (0, 0)
    assert facts.loss is None


# -- the list ----------------------------------------------------------------------------------


def test_the_list_is_newest_first_with_the_last_loss(tmp_path: Path) -> None:
    runs = RunsTail(tmp_path / "none")
    assert find(runs.poll(), RunsListed).runs == ()
    make_run(tmp_path, role="teacher", state="finished", step=1000)
    second = make_run(tmp_path)
    with open(second.metrics_path, "a") as file:
        file.write('{"step": 601, "loss": 0.25}\n{"step": 602, "lo')
    listed = find(RunsTail(tmp_path).poll(), RunsListed).runs
    assert [facts.name for facts in listed] == ["digits/student-1", "digits/teacher-1"]
    assert [facts.state for facts in listed] == ["running", "finished"]
    assert listed[0].loss == 0.25
