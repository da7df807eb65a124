"""`di4c matrix`: every cell of a grid is made once, and what cannot be made is told."""

import json

import pytest
from program import TINY, TINY_TEACHER

from di4c_cli.errors import UsageError
from di4c_cli.matrix import axis
from di4c_cli.matrix_table import document

TOY = ["train.steps=4", "train.batch_size=4", "network.width=8", "preview.every=0", "preview.num=2"]
TOY += ["eval.steps=[1,2]", "eval.num=8", "metrics.0.num_latents=4"]


def settings(text):
    return [(setting.label, setting.overrides) for setting in axis(text).settings]


def test_values_of_one_key():
    assert settings("network.width=8;16 ; 32") == [
        ("8", ("network.width=8",)),
        ("16", ("network.width=16",)),
        ("32", ("network.width=32",)),
    ]
    assert axis("network.width=8;16").name == "network.width"


def test_keys_that_change_together_and_names():
    assert settings("process.kind=masked a.b='subs'; big: process.kind=uniform a.b=null c=1") == [
        ("masked subs", ("process.kind=masked", "a.b='subs'")),
        ("big", ("process.kind=uniform", "a.b=null", "c=1")),
    ]


@pytest.mark.parametrize("text", ["", "a", "a=1;;", "a=1;1", "=1", "--a=1", "name: "])
def test_no_axis(text):
    with pytest.raises(UsageError):
        axis(text)


def runs(program, recipe):
    return {path.parent: path.stat().st_mtime_ns for path in (program.runs / recipe).glob("*/status.json")}


def test_cells_are_made_once_and_what_does_not_fit_is_told(program):
    line = ["matrix", "toy", *TOY, "--over", "process.schedule=linear;nonsense", "--over", "train.seed=0;1"]
    made = program.ok(*line, "--json").json
    assert [cell["settings"] for cell in made["cells"]] == [
        [schedule, seed] for schedule in ("linear", "nonsense") for seed in ("0", "1")
    ]
    assert ["rows" in cell for cell in made["cells"]] == [True, True, False, False]
    assert "nonsense" in made["cells"][2]["reason"]
    assert made["figure"] == "tv"
    before = runs(program, "toy")
    assert len(before) == 2
    folder = program.runs / "toy" / "matrix.matrix"
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
    line[-3] = "process.schedule=linear;cosine"
    out = program.ok(*line).out
    assert "cosine" in out
    after = runs(program, "toy")
    assert before.items() <= after.items()  # what was there is as it was
    assert len(after) == 4


def test_a_matrix_goes_on_where_it_was_killed(program):
    line = ["matrix", "toy", *TOY, "train.save_every=2", "--over", "network.depth=2;3"]
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


def test_cells_share_the_teacher_that_they_have_in_common(program):
    settings = [*TINY_TEACHER, *(s for s in TINY if "width" not in s), "train.steps=4", "preview.steps=[1]"]
    settings += ["teacher.train.steps=4", "eval.steps=[1]", "eval.num=8", "hand_over=null"]
    metrics = 'metrics=[{kind="nll_bound",num=4,num_latents=2}]'
    over = ["--over", "network.width=8;16", "--over", "student.num_latents=2;4"]
    made = program.ok("matrix", "digits", *settings, metrics, *over, "--name", "m", "--json").json
    teachers = [cell["teacher"] for cell in made["cells"]]
    assert teachers[0] == teachers[1] != teachers[2] == teachers[3]
    assert len({cell["student"] for cell in made["cells"]}) == 4
    assert made["cells"][0]["seconds"].keys() == {"teacher", "student"}


def test_no_cell_at_all_is_an_error(program):
    outcome = program("matrix", "toy", *TOY, "--over", "process.schedule=nonsense")
    assert outcome.code == 2
    assert "nonsense" in outcome.complaint[-1]
    wrong = program("matrix", "toy", *TOY, "--over", "process.schedule")
    assert wrong.code == 2
    assert not (program.runs / "toy").exists()
