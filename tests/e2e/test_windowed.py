"""The windowed student from the command line: it starts from data, and teaches a second round."""

import pytest
from program import Program

from di4c_cli import shipped

BRIEF = ["train.steps=3", "train.log_every=1", "preview.every=0", "student.components=8"]
BRIEF += ['metrics=[{kind="nll_bound",num=40}]', "eval.num=20", "eval.steps=[1,2]"]
STUDENT = 'kind = "windowed"\nwindow = [8, 8]\nlayouts = 1\ntied = false\nbalanced = true\ncomponents = 8\n'


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def bounds(result):
    """NLL bound by model and steps."""
    return {(row["model"], row["steps"]): row["metrics"]["nll_bound"] for row in result["evaluation"]["rows"]}


def test_a_start_from_data_is_ahead_of_the_teacher_and_a_round_can_follow(program, tmp_path):
    first = program.ok("distill", "digits_windowed", *BRIEF, "--name", "first", "--json").json
    nats = bounds(first)
    assert nats["student", 1] < nats["teacher", 1] - 5
    recipe = shipped.recipe_paths()["digits_windowed"].read_text()
    before, after = recipe.index("[teacher]"), recipe.index("[teacher_sampler]")
    teacher = f'[teacher]\nkind = "mixture"\n\n[teacher.student]\n{STUDENT}\n'
    (tmp_path / "round2.toml").write_text(recipe[:before] + teacher + recipe[after:])
    chosen = ["--teacher", "digits_windowed/first", "--json"]
    second = program.ok("distill", tmp_path / "round2.toml", *BRIEF, *chosen).json
    again = bounds(second)
    # The first round's student is the teacher now, and where the second starts.
    assert again["teacher", 1] == pytest.approx(nats["student", 1], abs=0.01)
    assert again["student", 1] == pytest.approx(nats["student", 1], abs=1.0)


def test_the_same_seed_starts_from_the_same_codebook(program):
    runs = [
        program.ok("distill", "digits_windowed", *BRIEF, "--name", name, "--json").json for name in ("a", "b")
    ]
    assert bounds(runs[0]) == bounds(runs[1])
