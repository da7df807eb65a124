"""`recipes`, `runs` and `doctor`: what they print, and that --json is one document."""

import csv
import io
import json
import os

import pytest

from di4c_cli import shipped
from di4c_cli.runs import RunDirectory, Status

VALUES = {"train.steps": {"value": 10, "origin": "default"}, "train.ema": {"value": 0.5, "origin": "default"}}


@pytest.fixture
def runs():
    """Two runs: a finished teacher, and a student that was interrupted and is the newest."""
    made = []
    for role, state, steps in (("teacher", "finished", 10), ("student", "interrupted", 20)):
        run = RunDirectory.create("toy", role)
        values = VALUES | {"train.steps": {"value": steps, "origin": "override"}}
        run.write_resolved({"recipe": "toy", "values": values, "config": {}})
        for step in (5, 10):
            run.append_metrics({"step": step, "time": 1.0, "loss": 1 / step, f"loss/{role}": 0.5})
        run.write_status(Status(state=state, recipe="toy", role=role, step=10, steps=steps, elapsed=65.0))
        os.utime(run.path / "status.json", (1e9 + steps, 1e9 + steps))
        made.append(run)
    return made


@pytest.mark.parametrize(
    "command",
    [
        "recipes",
        "recipes show toy",
        "recipes check toy digits",
        "recipes schema",
        "recipes cp toy copy.toml",
        "runs",
        "runs show latest",
        "runs diff toy/teacher-1 toy/student-1",
        "runs export latest --csv out.csv",
        "monitor --once",
        "doctor",
    ],
)
def test_json_is_exactly_one_document(run, runs, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*command.split(), "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    assert result.stderr == ""


def test_the_monitor_tells_what_runs_show_tells(run, runs):
    asked = json.loads(run("monitor", "toy/teacher-1", "latest", "--once", "--json").stdout)
    assert [told["role"] for told in asked] == ["teacher", "student"]
    shown = json.loads(run("runs", "show", runs[1].path.absolute(), "--json").stdout)
    assert asked[1] == json.loads(run("monitor", "--once", "--json").stdout)[0] == shown
    refused = run("monitor", "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == "monitor --json: goes with --once (write --once --json)\n"


def test_recipes_are_listed_with_their_titles(run):
    result = run("recipes")
    for name, path in shipped.recipe_paths().items():
        assert f" {name} " in result.stdout
        assert shipped.read_title(path) in result.stdout


def test_show_tells_origins(run):
    result = run("recipes", "show", "toy", "train.steps=7", "--origin")
    assert "steps = 7  # override" in result.stdout
    assert "toy.toml:" in result.stdout
    assert "  # default" in result.stdout
    keys = ("sampler.t_last", "teacher_sampler.t_last", "times.s_min", "times.doubling", "times.grid")
    keys += ("train.rows_at_once",)
    said = [f"{key}={0 if key == 'times.s_min' else 0.5 if 't_last' in key else 9}" for key in keys]
    said += ["hand_over.num=9"]
    assert "#" not in run("recipes", "show", "toy", *said).stdout  # what is null would be a comment
    values = json.loads(run("recipes", "show", "toy", "train.steps=7", "--json").stdout)["values"]
    assert values["train.steps"] == {"value": 7, "origin": "override"}


def test_check_names_every_fault_of_every_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = shipped.find_recipe("toy").read_text()
    (tmp_path / "bad.toml").write_text(text.replace("[train]", "[train]\nstepz = 1\nemaa = 0"))
    line = text.splitlines().index("[train]") + 2
    result = run("recipes", "check", "toy", "bad.toml", "nowhere")
    assert result.exit_code == 2
    assert result.stdout == "toy: ok\n"
    lines = result.stderr.splitlines()
    assert lines[0] == f"bad.toml:{line}: train.stepz: unknown key. Did you mean 'steps'?"
    assert lines[1] == f"bad.toml:{line + 1}: train.emaa: unknown key. Did you mean 'ema'?"
    assert lines[2].startswith("nowhere: no such recipe")
    report = json.loads(run("recipes", "check", "toy", "bad.toml", "--json").stdout)
    assert [entry["ok"] for entry in report] == [True, False]
    assert len(report[1]["errors"]) == 2


def test_cp_never_overwrites(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    original = shipped.find_recipe("toy").read_bytes()
    assert run("recipes", "cp", "toy", "mine").stdout == "mine.toml\n"
    assert (tmp_path / "mine.toml").read_bytes() == original
    (tmp_path / "mine.toml").write_text("precious")
    result = run("recipes", "cp", "toy", "mine.toml")
    assert (result.exit_code, result.stderr) == (2, "mine.toml: exists already (choose another name)\n")
    assert (tmp_path / "mine.toml").read_text() == "precious"
    (tmp_path / "folder").mkdir()
    assert run("recipes", "cp", "toy", "folder").stdout == "folder/toy.toml\n"
    assert run("recipes", "cp", "toy", "no/such/folder/x.toml").exit_code == 2
    assert run("recipes", "cp", "toi", "x.toml").stderr == "toi: no such recipe (Did you mean 'toy'?)\n"


def test_runs_say_what_the_contract_promises(run, runs):
    listed = json.loads(run("runs", "--json").stdout)
    teacher = {"role": "teacher", "state": "finished", "steps": 10, "updated": 1e9 + 10}
    student = {"role": "student", "state": "interrupted", "steps": 20, "updated": 1e9 + 20}
    assert listed == [
        {"run": str(made.path), "recipe": "toy", "step": 10, "loss": 0.1, "samples_per_s": None} | expected
        for made, expected in zip(runs, (teacher, student), strict=True)
    ]
    table = run("runs").stdout
    assert table.index("toy/teacher-1") < table.index("toy/student-1")


def test_no_runs_yet(run):
    assert json.loads(run("runs", "--json").stdout) == []
    result = run("runs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "di4c distill digits" in result.stderr


def test_show_gives_the_last_of_each_figure(run, runs):
    runs[1].append_metrics({"step": 15, "memory_mb": 3.0})
    shown = json.loads(run("runs", "show", "latest", "--json").stdout)
    assert shown["last"] == {"step": 15, "time": 1.0, "loss": 0.1, "loss/student": 0.5, "memory_mb": 3.0}
    text = run("runs", "show", "toy/student-1").stdout
    assert "10 of 20" in text
    assert "interrupted" in text
    assert "1:05" in text


def test_diff_lists_what_differs_only(run, runs):
    found = json.loads(run("runs", "diff", "toy/teacher-1", "toy/student-1", "--json").stdout)
    assert found["differences"] == {"train.steps": [10, 20]}
    assert "train.ema" not in run("runs", "diff", "toy/teacher-1", "toy/student-1").stdout
    assert run("runs", "diff", "latest", "latest").stdout == ""


def test_export_writes_every_column_once(run, runs, tmp_path):
    runs[0].append_metrics({"step": 15, "late": "a,b"})
    file = tmp_path / "curves.csv"
    assert run("runs", "export", "toy/teacher-1", "--csv", file).exit_code == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert list(rows[0]) == ["step", "time", "loss", "loss/teacher", "late"]
    assert [row["step"] for row in rows] == ["5", "10", "15"]
    assert (rows[0]["late"], rows[2]["late"], rows[2]["loss"]) == ("", "a,b", "")
    assert run("runs", "export", "toy/teacher-1", "--csv", "-").stdout == file.read_text()


@pytest.mark.parametrize(
    "command",
    [
        "runs show nope",
        "runs diff latest nope",
        "runs export nope --csv x",
        "recipes show nope",
        "recipes bogus",
    ],
)
def test_what_is_not_there_is_one_line_and_code_2(run, runs, command):
    result = run(*command.split())
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_export_to_nowhere_or_of_nothing(run, runs, tmp_path):
    empty = RunDirectory.create("toy", "student", "empty")
    empty.write_status(Status())
    assert "has no figures yet" in run("runs", "export", "toy/empty", "--csv", tmp_path / "x").stderr
    assert run("runs", "export", "toy/teacher-1", "--csv", tmp_path / "no" / "x").exit_code == 2


def test_doctor_finds_data_and_vocabulary(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DI4C_DATA", str(tmp_path))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["data"] == {"root": str(tmp_path), "exists": True, "sets": []}
    assert facts["gpt2_vocabulary"] is None
    for file in ("mnist/x", "gpt2-bpe/vocab.bpe"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["data"]["sets"] == ["gpt2-bpe", "mnist"]
    assert facts["gpt2_vocabulary"] == str(tmp_path / "gpt2-bpe" / "vocab.bpe")
    assert facts["packages"]["torch"].startswith("2.")
    text = run("doctor").stdout
    assert "C++ ops: " in text
    assert "mnist" in text
