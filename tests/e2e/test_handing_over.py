"""`di4c hand-over`: what is found is what the checkpoint samples with from then on."""

import json
import shutil
import signal
import time

import pytest
from program import TINY, Program

from di4c_cli.runs import RunDirectory

LITTLE = ["metrics=[]", "train.steps=1", "preview.every=0"]
CHOICE = "hand_over={steps=[1,4],num=40,num_latents=4}"


@pytest.fixture(scope="module")
def untrained(digits, tmp_path_factory):
    """A student that knows nothing, beside its teacher."""
    program = Program(tmp_path_factory.mktemp("untrained"))
    shutil.copytree(digits.runs / "digits" / "teacher-1", program.runs / "digits" / "teacher-1")
    made = program.ok("distill", "digits", *TINY, *LITTLE, "student.init=scratch", CHOICE, "--json").json
    return program, made


def samples(program, source, *options):
    path = program.home / "samples.npz"
    program.ok("sample", source, "--steps", 4, "--num", 8, "--out", path, *options)
    return path.read_bytes()


def stated(program, name="student-1"):
    return json.loads((program.runs / "digits" / name / "final" / "config.json").read_text())


def test_a_recipe_that_asks_for_it_gets_it_with_the_distillation(untrained):
    program, made = untrained
    assert [row["steps"] for row in made["hand_over"]["rows"]] == [1, 4]
    assert all(row["calls"] == list(range(row["steps"])) for row in made["hand_over"]["rows"])
    for row in made["hand_over"]["rows"]:
        assert row["nll_bound"]["both"] == row["nll_bound"]["teacher"] < row["nll_bound"]["student"]
    assert stated(program)["recipe"]["sampler"]["by_teacher"] == [
        {"steps": 1, "calls": [0]},
        {"steps": 4, "calls": [0, 1, 2, 3]},
    ]


def test_a_signal_ends_it_and_the_student_stays(digits, tmp_path):
    program = Program(tmp_path)
    shutil.copytree(digits.runs / "digits" / "teacher-1", program.runs / "digits" / "teacher-1")
    run = RunDirectory(program.runs / "digits" / "student-1")
    long = "hand_over={steps=[1000],num=300,batch=1}"
    with program.started("distill", "digits", *TINY, *LITTLE, long) as process:
        end = time.monotonic() + 60
        while not (run.final / "config.json").is_file() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert f"the student is saved (find the teacher's calls with: di4c hand-over {run.path})" in err
    assert run.status().state == "interrupted"
    assert stated(program)["recipe"]["sampler"]["by_teacher"] == []
    samples(program, "digits/student-1")


def test_the_checkpoint_samples_as_stated(untrained):
    program, _ = untrained
    as_stated = samples(program, "digits/student-1")
    assert as_stated == samples(program, "digits/teacher-1")  # every call is the teacher's
    assert as_stated != samples(program, "digits/student-1", "sampler.by_teacher=[]")


def test_an_evaluation_tells_whose_calls_they_are(untrained):
    program, _ = untrained
    line = ["eval", "digits/student-1", "--steps", "4", "--num", "8", "--models", "teacher,student"]
    line += ['metrics=[{kind="nll_bound",num=4,num_latents=2}]', "--out", program.home / "report"]
    teacher, student = program.ok(*line, "--json").json["rows"]
    assert ("by_teacher" in teacher, student["by_teacher"]) == (False, 4)
    assert student["metrics"] == teacher["metrics"]
    assert "student, 4 by teacher" in (program.home / "report" / "results.md").read_text()
    alone = program.ok(*line, "--json", "sampler.by_teacher=[]").json["rows"][1]
    assert "by_teacher" not in alone
    assert alone["metrics"] != teacher["metrics"]


def test_by_hand(digits, tmp_path):
    program = Program(tmp_path)
    shutil.copytree(digits.runs / "digits", program.runs / "digits")
    text = program.ok("hand-over", "digits/student-1", "--steps", "1,2", "--num", "40").out
    assert "NLL bound in nats, on 40 held-out items" in text
    before, after = stated(digits), stated(program)
    table = after["recipe"]["sampler"].pop("by_teacher")
    assert [entry["steps"] for entry in table] == [1, 2]  # also where nothing is handed over
    assert before["recipe"]["sampler"].pop("by_teacher") == []
    assert {key: value for key, value in after.items() if key != "sha256"} == {
        key: value for key, value in before.items() if key != "sha256"
    }  # and nothing else has changed
    program.ok("sample", "digits/student-1", "--num", "2", "--out", tmp_path / "x.npz")


def test_what_has_no_teacher_or_is_one(untrained):
    program, _ = untrained
    before = program.files()
    assert "not a student" in program("hand-over", "digits/teacher-1").complaint[0]
    gone, elsewhere = program.runs / "digits" / "teacher-1", program.home / "elsewhere"
    gone.rename(elsewhere)
    try:
        for line in (["hand-over", "digits/student-1"], ["sample", "digits/student-1", "--num", "2"]):
            outcome = program(*line)
            assert outcome.code == 2, outcome.err
            assert "teacher" in outcome.complaint[0]
    finally:
        elsewhere.rename(gone)
    assert program.files() == before
