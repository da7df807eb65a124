"""Which teacher a student has: the one it was begun with, known by its weights, or none."""

import json
import shutil
from pathlib import Path

import pytest
from program import TINY, TINY_TEACHER, Program
from refusal import refused

from di4c_cli.core.checkpoint_header import header_text, read_config
from di4c_cli.lineage import contradictions
from di4c_cli.runs import RunDirectory

FEW = ["--num", 2, "--steps", 2, "--json"]
QUICK = ["--steps", "2", "--num", 4, "--metrics", "class_entropy", "--json"]
QUICK += ["eval.models=['teacher','student']"]
LONGER = ["--resume", "digits/student-1", "train.steps=50", "--quiet"]
DRY = [*LONGER, "--dry-run", "--json"]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The final folder of another teacher of the same shape."""
    program = Program(tmp_path_factory.mktemp("other"))
    program.ok("train-teacher", "digits", *TINY_TEACHER, "teacher.train.seed=1", "teacher.train.steps=2")
    return program.runs / "digits/teacher-1/final"


@pytest.fixture
def moved(digits, tmp_path):
    """A copy of teacher and student below another root, the student's record pointing to where nothing is."""
    program = Program(tmp_path)
    shutil.copytree(digits.runs / "digits", program.runs / "digits")
    (program.runs / ".cache").symlink_to(digits.runs / ".cache")
    run = RunDirectory(program.runs / "digits/student-1")
    gone = {"teacher": "/gone/digits/teacher-1/final"}
    run.write_resolved(run.resolved() | gone)
    restate(run, gone)
    return program


def restate(run, changed):
    header = {**read_config(run.final), **changed}
    (run.final / "config.json").write_text(header_text(header), encoding="utf-8")


def student_of(program):
    return RunDirectory(program.runs / "digits/student-1")


def forget_the_hash(run):
    """As a program of before wrote it."""
    run.write_resolved({k: v for k, v in run.resolved().items() if k != "teacher_sha256"})
    header = {k: v for k, v in read_config(run.final).items() if k != "teacher_sha256"}
    (run.final / "config.json").write_text(header_text(header), encoding="utf-8")


def replace(folder, by):
    shutil.rmtree(folder)
    shutil.copytree(by, folder)


def test_run_and_checkpoint_keep_the_teachers_hash_and_tell_its_place(digits):
    run, teacher = student_of(digits), digits.runs / "digits/teacher-1/final"
    expected = (str(teacher.resolve()), read_config(teacher)["files"]["ema.safetensors"])
    for kept in (run.resolved(), read_config(run.final)):
        assert (kept["teacher"], kept["teacher_sha256"]) == expected
    assert f"teacher {teacher}" in run.log_path.read_text(encoding="utf-8")


def test_a_moved_root_is_resumed_with_the_same_teacher(moved):
    teacher = str(moved.runs / "digits/teacher-1/final")
    assert moved.ok("distill", *DRY).json["teacher"] == teacher
    told = [option for option in LONGER if option != "--quiet"]
    assert f"teacher {teacher}" in moved.ok("distill", *told, "metrics=[]").err
    assert student_of(moved).resolved()["teacher"] == teacher


def test_a_teacher_that_changed_in_its_place_is_refused_like_drift(moved, other):
    run, teacher = student_of(moved), moved.runs / "digits/teacher-1/final"
    run.write_resolved(run.resolved() | {"teacher": str(teacher)})
    replace(teacher, other)
    for more in ([], ["--dry-run"]):
        (line,) = refused(moved, "distill", *LONGER, *more)
        assert f"student-1: its teacher {teacher} has changed: sha256 was " in line
        assert "--allow-drift" in line
    assert moved.ok("distill", *DRY, "--allow-drift").json["teacher"] == str(teacher)
    forget_the_hash(run)  # begun before it was kept
    assert moved.ok("distill", *DRY).json["teacher"] == str(teacher)


def test_a_teacher_that_is_gone_may_be_named_if_it_has_the_same_weights(moved, other):
    teacher, elsewhere = moved.runs / "digits/teacher-1", moved.home / "elsewhere"
    teacher.rename(elsewhere)
    (line,) = refused(moved, "distill", *LONGER)
    assert "student-1: its teacher /gone/digits/teacher-1/final is gone" in line
    assert "say where it is now: --teacher PATH, with the same weights" in line
    named = moved.ok("distill", *DRY, "--teacher", elsewhere).json["teacher"]
    assert named == str(elsewhere / "final")
    (line,) = refused(moved, "distill", *LONGER, "--teacher", other)
    assert f"--teacher {other}: has other weights than the teacher of " in line
    assert moved.ok("distill", *DRY, "--teacher", other, "--allow-drift").json["teacher"] == str(other)


def test_no_other_teacher_stands_in_for_one_that_is_gone(moved, other):
    """Neither the newest of the recipe nor the shipped one."""
    assert moved.ok("eval", "digits/student-1", *QUICK).json["teacher"] is not None  # moved along
    replace(moved.runs / "digits/teacher-1/final", other)
    found = moved.ok("eval", "digits/student-1", *QUICK).json
    assert found["teacher"] is None
    assert {row["model"] for row in found["rows"]} == {"student"}
    (line,) = refused(moved, "eval", "digits/student-1", "eval.models=['teacher']", "--quiet")
    assert "eval.models: teacher: not at hand" in line
    for command, *options in (["sample", *FEW, "--teacher-steps", 1], ["hand-over"]):
        outcome = moved(command, "digits/student-1", *options)
        assert outcome.code == 2
        assert "its checkpoint was moved or removed" in outcome.complaint[-1]
    shutil.copytree(moved.runs / "digits/teacher-1", moved.home / "kept")
    # where the old one stood there is another now: told, and left out
    there = moved.home / "kept/final"
    restate(student_of(moved), {"teacher": str(there)})
    told = moved.ok("sample", "digits/student-1", *FEW)
    assert f"left out {there}, which has other weights" in told.err


def test_the_same_weights_are_the_teacher_wherever_they_are_found(moved):
    run = moved.runs / "digits/teacher-1"
    run.rename(run.with_name("teacher-7"))
    found = moved.ok("eval", "digits/student-1", *QUICK).json
    assert found["teacher"] == str(moved.runs / "digits/teacher-7/final")
    assert {row["model"] for row in found["rows"]} == {"teacher", "student"}


def test_of_an_old_checkpoint_the_recipes_teacher_stands_in_and_that_is_told(moved):
    forget_the_hash(student_of(moved))
    made = moved.ok("eval", "digits/student-1", *QUICK)
    teacher = moved.runs / "digits/teacher-1/final"
    assert made.json["teacher"] == str(teacher)
    (line,) = [line for line in made.err.splitlines() if "/gone/" in line]
    assert line.endswith(f"its teacher /gone/digits/teacher-1/final is gone; {teacher} stands in for it")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("codec", "height", 4),
        ("codec", "kind", "patches"),
        ("process", "kind", "uniform"),
        ("network", "parameterization", "bayes"),
    ],
)
def test_a_teacher_of_something_else_is_refused_though_it_has_the_shapes(moved, section, key, value):
    teacher = RunDirectory(moved.runs / "digits/teacher-1")
    recipe = read_config(teacher.final)["recipe"]
    ours = recipe[section][key]
    recipe[section][key] = value
    restate(teacher, {"recipe": recipe})
    (line,) = refused(moved, "distill", "digits", *TINY)
    assert f"digits.toml: {section}.{key}: {json.dumps(ours)}, but the teacher {teacher.final} was" in line
    assert f"trained with {json.dumps(value)}" in line


@pytest.mark.parametrize("sees_time", [False, True])
def test_another_schedule_matters_only_to_a_network_that_sees_time(program, sees_time):
    small = [*TINY_TEACHER, "teacher.train.steps=2", f"network.time={str(sees_time).lower()}"]
    program.ok("train-teacher", "digits", *small)
    line = ["distill", "digits", *TINY, small[-1], "process.schedule=cosine", "--dry-run", "--json"]
    if sees_time:
        (told,) = refused(program, *line)
        assert 'process.schedule: "cosine", but the teacher' in told
    else:
        assert "teacher-1" in program.ok(*line).json["teacher"]


def test_a_student_named_as_teacher_stands_for_its_own(moved):
    facts = moved.ok("distill", "digits", *TINY, "--teacher", "digits/student-1", "--dry-run", "--json").json
    assert facts["teacher"] == str(moved.runs / "digits/teacher-1/final")
    shutil.rmtree(moved.runs / "digits/teacher-1")
    (line,) = refused(moved, "distill", "digits", *TINY, "--teacher", "digits/student-1")
    assert "student-1/final: the teacher of this student is not at hand" in line


def test_a_codebook_may_lie_elsewhere_but_not_be_another(tmp_path):
    def folder(name, header):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(header_text({"format": 2, **header}), encoding="utf-8")
        return str(tmp_path / name)

    codebook = {"role": "codec", "kind": "patches", "architecture": {}}
    books = [
        folder(name, {**codebook, "files": {"model.safetensors": digest}})
        for name, digest in (("a", "1"), ("copy", "1"), ("b", "2"))
    ]
    recipes = [{"codec": {"kind": "patches", "checkpoint": book}, "process": {}} for book in books]
    teacher = folder("teacher", {"role": "teacher", "recipe": recipes[0]})
    found = [list(contradictions(Path(teacher), recipe, schedule_matters=True)) for recipe in recipes]
    assert found == [[], [], [("codec.checkpoint", books[0], books[2])]]
