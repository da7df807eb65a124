"""`di4c matrix`: every cell of a grid is made once, and what cannot be made is told."""

import json
import signal

import pytest
from program import TINY, TINY_TEACHER

from di4c_cli.matrix_table import document, headings
from di4c_cli.runs import RunDirectory

TOY = ["train.steps=4", "train.batch_size=4", "network.width=8", "preview.every=0", "preview.num=2"]
TOY += ["eval.steps=[1,2]", "eval.num=8", "metrics.0.num_latents=4"]


def runs(program, recipe):
    return {path.parent: path.stat().st_mtime_ns for path in (program.runs / recipe).glob("*/status.json")}


def test_cells_are_made_once_and_what_does_not_fit_is_told(program):
    misfit = "misfit: process.kind=uniform"  # the student needs a mask
    over = ["--over", f"process.schedule=linear; {misfit}", "--over", "train.seed=0,1"]
    made = program.ok("matrix", "toy", *TOY, *over, "--json").json
    assert [cell["settings"] for cell in made["cells"]] == [
        [schedule, seed] for schedule in ("linear", "misfit") for seed in ("0", "1")
    ]
    assert ["rows" in cell for cell in made["cells"]] == [True, True, False, False]
    assert {row["model"] for row in made["cells"][0]["rows"]} == {"teacher", "student"}
    assert "needs a process with a mask" in made["cells"][2]["reason"]
    assert made["figure"] == "tv"
    before = runs(program, "toy")
    assert {run.name for run in before} == {"matrix-linear-0", "matrix-linear-1"}
    folder = program.runs / "toy" / "matrix"
    assert (folder / "matrix.png").read_bytes().startswith(b"\x89PNG")
    told = (folder / "matrix.md").read_text()
    assert told == document(json.loads((folder / "matrix.json").read_text()))
    (line_of_linear,) = [text for text in told.splitlines() if text.startswith("| linear")]
    for k in (1, 2):
        student = [
            row["metrics"]["tv"]
            for cell in made["cells"][:2]
            for row in cell["rows"]
            if (row["model"], row["steps"]) == ("student", k)
        ]
        assert f"{sum(student) / 2:.4g} ± " in line_of_linear  # mean over training seeds

    over[1] = "process.schedule=linear,cosine"
    again = program.ok("matrix", "toy", *TOY, *over, "--out", "elsewhere")
    assert "cosine" in again.out
    assert (program.home / "elsewhere" / "matrix.md").is_file()
    after = runs(program, "toy")
    assert before.items() <= after.items()  # what was there is as it was
    assert len(after) == 4

    changed = program("matrix", "toy", *TOY, "train.lr=0.5", *over)
    assert changed.code == 2
    assert len(changed.complaint) == 1
    assert "matrix-linear-0: train.lr" in changed.complaint[0]
    assert runs(program, "toy") == after


def test_a_matrix_goes_on_where_it_was_killed(program):
    line = ["matrix", "toy", *TOY, "--over", "network.depth=2,3"]
    prelude = """
import os, signal
from di4c_cli import pipeline
evaluate = pipeline.evaluate
def once(*args, **options):
    evaluate(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
pipeline.evaluate = once
"""
    assert program(*line, prelude=prelude).code == -9
    (first,) = runs(program, "toy").items()
    program.ok(*line)
    assert first in runs(program, "toy").items()
    assert len(runs(program, "toy")) == 2


def test_a_matrix_stops_on_a_signal_and_goes_on_with_the_interrupted_run(program):
    line = ["matrix", "toy", *TOY, "--over", "network.depth=2", "train.log_every=2", "train.steps=100"]
    run = RunDirectory(program.runs / "toy" / "matrix-2")
    prelude = f"""
import os, signal, threading, time
from pathlib import Path
from di4c_cli.runs import RunDirectory
def stop():
    while not RunDirectory(Path({str(run.path)!r})).last_figures("step"):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=stop, daemon=True).start()
"""
    stopped = program(*line, prelude=prelude)
    assert stopped.code == 143
    assert stopped.complaint[-1].endswith("(the same command goes on from there)")
    assert run.status().state == "interrupted"
    # Lengths are settings like others: nothing that was begun is stretched or cut.
    shorter = program(*line[:-1], "train.steps=2")
    assert (shorter.code, "train.steps" in shorter.complaint[-1]) == (2, True)
    step = run.status().step
    assert "resuming toy/matrix-2 at step" in program.ok(*line).err
    assert run.status().step == 100 > step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_an_evaluation_has_the_same_exit_code(program, number):
    prelude = f"""
import os, signal
from di4c_cli import pipeline
signal.signal(signal.SIGINT, signal.default_int_handler)
pipeline.evaluate = lambda *args, **options: os.kill(os.getpid(), {int(number)})
"""
    outcome = program("matrix", "toy", *TOY, "--over", "network.depth=2", prelude=prelude)
    assert outcome.code == 128 + number
    assert len(runs(program, "toy")) == 1


def test_cells_share_the_teacher_that_they_have_in_common(program):
    settings = [*TINY_TEACHER, *(s for s in TINY if "width" not in s), "train.steps=4", "preview.steps=[1]"]
    settings += ["teacher.train.steps=4", "eval.steps=[1]", "eval.num=8", "hand_over=null"]
    metrics = 'metrics=[{kind="nll_bound",num=4,num_latents=2}]'
    over = ["--over", "network.width=8,16", "--over", "student.num_latents=2,4"]
    made = program.ok("matrix", "digits", *settings, metrics, *over, "--name", "m", "--json").json
    teachers = [cell["teacher"] for cell in made["cells"]]
    assert teachers[0] == teachers[1] != teachers[2] == teachers[3]
    assert {run.name for run in runs(program, "digits")} == {
        *("m-8-teacher", "m-8-2", "m-8-4"),
        *("m-16-teacher", "m-16-2", "m-16-4"),
    }
    assert made["cells"][0]["seconds"].keys() == {"teacher", "student"}
    listed = {run["run"]: run["state"] for run in program.ok("runs", "--json").json}
    assert set(listed.values()) == {"finished"}
    # A cell does not stand for its recipe, unless it is named.
    facts = program.ok("distill", "digits", "--dry-run", "--json").json
    assert str(program.runs) not in facts["teacher"]
    small = [*settings, "network.width=8", "--dry-run", "--json"]
    named = program.ok("distill", "digits", *small, "--teacher", "digits/m-8-teacher").json["teacher"]
    assert named == f"{teachers[0]}/final"
    program.ok("distill", "--resume", "digits/m-8-2", "train.steps=5", "--quiet")
    assert program.ok("sample", "digits", "--num", 2, "--json").json["model"] == "teacher"


def test_diverging_cells_are_told_and_their_teacher_is_tried_once(program):
    settings = [*TINY_TEACHER, *(s for s in TINY if "width" not in s), "train.steps=4", "hand_over=null"]
    settings += ["teacher.train.steps=6", "teacher.train.max_skipped=0", "eval.steps=[1]", "eval.num=8"]
    metrics = 'metrics=[{kind="nll_bound",num=4,num_latents=2}]'
    over = ["--over", "teacher.train.lr=1e-3,1e38", "--over", "student.num_latents=2,4"]
    line = ["matrix", "digits", *settings, "teacher.train.clip=0", metrics, *over]
    made = program.ok(*line, "--json")
    assert ["rows" in cell for cell in made.json["cells"]] == [True, True, False, False]
    assert made.json["cells"][2]["reason"] == made.json["cells"][3]["reason"]
    assert made.err.count("1e38-teacher") <= 3
    line[line.index(over[1])] = "teacher.train.lr=1e38"  # no cell works
    assert program(*line).code == 3


def test_what_is_wrong_is_found_before_anything_is_made(program):
    for code, last, over in [
        (2, "nonsense", ["--over", "process.schedule=nonsense"]),
        (2, "nonsense", ["--over", "process.schedule=linear,nonsense", "--over", "train.seed=0,1"]),
        (2, "should be a valid integer", ["--over", "train.seed=0,1", "--over", "network.width=8,abc"]),
        (2, "--figure fid", ["--over", "network.depth=2,3", "--figure", "fid"]),
        (2, "over what", []),
        (2, "not an override", ["--over", "process.schedule"]),
    ]:
        outcome = program("matrix", "toy", *TOY, *over)
        assert (outcome.code, last in outcome.complaint[-1]) == (code, True), outcome.err
    assert not (program.runs / "toy").exists()


def test_axes_whose_names_end_alike_are_told_apart():
    axes = ["process.kind", "network.kind", "train.seed", "train.lr"]
    assert headings({"axes": axes}) == ["process.kind", "network.kind", "lr"]  # of seeds, the mean is told
