"""`di4c eval`: rows, metrics and reports; `distill` ends with the same comparison."""

import itertools
import json
import shutil

import pytest
from PIL import Image
from program import TINY, Program
from refusal import refused


@pytest.fixture(scope="module")
def compared(digits, tmp_path_factory):
    """The tiny digits evaluated once, by every metric of the recipe."""
    program = Program(tmp_path_factory.mktemp("compared"), digits.runs)
    options = [
        "--models",
        "teacher,student,hybrid",
        "--steps",
        "1,2",
        "--num",
        60,
        "--seeds",
        "0,1",
        "--out",
        "report",
    ]
    return program, program.ok("eval", "digits/student-1", *options, "--json").json


def test_the_json_document(compared, digits):
    _, result = compared
    assert result["source"] == str(digits.runs / "digits/student-1/final")
    keys = {"model", "steps", "nfe", "num", "seed", "metrics", "seconds_per_sample"}
    keys |= {"temperature", "final", "precision", "intervals"}
    assert all(row.keys() == keys for row in result["rows"])
    # at one step a hybrid would be the teacher
    models = {"teacher": [1, 2], "student": [1, 2], "hybrid": [2]}
    expected = [(model, k, seed) for model, steps in models.items() for k in steps for seed in (0, 1)]
    assert [(row["model"], row["steps"], row["seed"]) for row in result["rows"]] == expected
    assert all(row["nfe"] == row["steps"] and row["num"] == 60 for row in result["rows"])
    assert all(row["seconds_per_sample"] > 0 for row in result["rows"])


def test_metric_names_directions_and_floors(compared):
    _, result = compared
    lower, higher = {"fd", "fd_test", "kid", "nll_bound"}, {"precision", "recall"}
    figures = lower | higher | {"class_entropy", "copies"}
    assert figures <= result["directions"].keys()
    assert {name for name, way in result["directions"].items() if way == "lower"} >= lower
    assert {name for name, way in result["directions"].items() if way == "higher"} >= higher
    for row in result["rows"]:
        assert row["metrics"].keys() == result["directions"].keys()
        assert all(isinstance(value, float) for value in row["metrics"].values())
    # real data in place of samples: everything but the bound, which is of a model
    assert result["reference"].keys() == result["directions"].keys() - {"nll_bound", "nll_bound_se"}
    assert result["reference"]["fd"] < min(row["metrics"]["fd"] for row in result["rows"])


def test_the_report_holds_the_same(compared):
    program, result = compared
    report = program.home / "report"
    assert sorted(path.name for path in report.iterdir()) == ["frontier.png", "results.json", "results.md"]
    written = json.loads((report / "results.json").read_text(encoding="utf-8"))
    assert written == {key: value for key, value in result.items() if key != "files"}
    assert sorted(result["files"]) == [f"report/{p.name}" for p in sorted(report.iterdir())]
    first, *_ = (report / "results.md").read_text(encoding="utf-8").split("##")
    table = [line for line in first.splitlines() if "|" in line]
    assert len(table) == 2 + 5 + 1  # head, rule, one line a model and step count, real data
    assert all(name in table[0] for name in result["directions"].keys() - {"nll_bound_se"})
    assert "nll_bound_se" not in table[0]
    with Image.open(report / "frontier.png") as image:
        assert image.width > 400


def test_verdicts_and_intervals(compared):
    _, result = compared
    assert result["judges"] == {}
    assert result["matched_entropy"] == []
    said = {(v["model"], v["steps"], v["against_steps"], v["metric"]) for v in result["verdict"]}
    judged = {name for name, way in result["directions"].items() if way != "report"}
    pairs = [("student", 1, 1), ("student", 1, 2), ("student", 2, 2), ("hybrid", 2, 2)]
    assert said == {(*pair, name) for pair in pairs for name in judged}
    assert all(v["says"] in ("better", "equal", "worse") for v in result["verdict"])  # two seeds, or items
    for row in result["rows"]:
        assert (row["temperature"], row["final"], row["precision"]) == (1.0, "sample", "float32")
        low, high = row["intervals"]["nll_bound"]
        assert low < row["metrics"]["nll_bound"] < high


QUICK = ["--steps", "1", "--num", 20, "--metrics", "class_entropy,nll_bound", "--models", "teacher,student"]


@pytest.mark.parametrize("given", ["--final sample,argmax", "--dtype float32,float64"])
def test_rows_that_do_not_compare_are_refused_unless_told_to(beside, given):
    option, several = given.split()
    (line,) = refused(beside, "eval", "digits/student-1", *QUICK, option, several)
    assert f"{option} {','.join(sorted(several.split(',')))}: rows that differ in this do not compare" in line
    assert "--mixed" in line
    options = [*QUICK, option, several, "--mixed", "--out", "o", "--json"]
    rows = beside.ok("eval", "digits/student-1", *options).json["rows"]
    key = {"--final": "final", "--dtype": "precision"}[option]
    assert [row[key] for row in rows if row["model"] == "student"] == several.split(",")


def test_one_other_precision_or_tail_is_no_mixture(beside):
    options = [*QUICK, "--final", "argmax", "--dtype", "float64", "--out", "o", "--json"]
    rows = beside.ok("eval", "digits/student-1", *options).json["rows"]
    assert {(row["final"], row["precision"]) for row in rows} == {("argmax", "float64")}


def test_temperatures(beside):
    options = [*QUICK, "--temperatures", "0.5,1", "--out", "o", "--json"]
    result = beside.ok("eval", "digits/student-1", *options).json
    rows = {(row["model"], row["temperature"]): row["metrics"] for row in result["rows"]}
    assert list(rows) == [(model, t) for model in ("teacher", "student") for t in (0.5, 1.0)]
    for (_, temperature), metrics in rows.items():
        assert ("nll_bound" in metrics) == (temperature == 1)
        assert "class_entropy" in metrics
    alone = beside.ok("eval", "digits/student-1", *QUICK, "--out", "o", "--json").json["rows"]
    assert [row["metrics"] for row in alone] == [rows["teacher", 1.0], rows["student", 1.0]]


def test_the_verdict_is_printed_below_the_table(beside):
    options = [*QUICK[2:], "--steps", "1,2", "--out", "o"]
    lines = beside.ok("eval", "digits/student-1", *options).out.splitlines()
    assert sum(line.startswith("nll_bound: student at 1 ") for line in lines) == 1


def test_seeds_are_shared_and_repeat(compared):
    """The same figures again, whatever stands beside them; a seed is the same draw for every model."""
    program, result = compared
    options = ["--steps", "2", "--num", 60, "--models", "teacher,hybrid", "--out", "again"]
    again = program.ok("eval", "digits/student-1", *options, "--json").json
    known = {(row["model"], row["steps"], row["seed"]): row["metrics"] for row in result["rows"]}
    assert [row["model"] for row in again["rows"]] == ["teacher", "hybrid"]
    for row in again["rows"]:
        assert row["metrics"] == known[row["model"], row["steps"], row["seed"]]


def test_some_metrics_only(compared):
    program, _ = compared
    options = ["--steps", "1", "--num", 40, "--metrics", "fd_test,recall", "--out", "some"]
    some = program.ok("eval", "digits/student-1", *options, "--json").json
    assert some["directions"] == {"fd_test": "lower", "recall": "higher"}
    assert some["reference"].keys() == {"fd_test", "recall"}
    assert all(row["metrics"].keys() == {"fd_test", "recall"} for row in some["rows"])


def test_without_out_the_report_lies_in_the_run(beside, digits):
    report = digits.runs / "digits/student-1/eval"
    shutil.rmtree(report)
    beside.ok("eval", "latest", "--steps", "1", "--num", 20, "--metrics", "class_entropy")
    assert (report / "results.json").is_file()


def test_people_get_a_table(beside):
    outcome = beside.ok("eval", "toy", "--steps", "1,2", "--num", 10, "--out", "report")
    teacher = [line.split() for line in outcome.out.splitlines() if "teacher" in line]
    assert [line[:3] for line in teacher] == [["teacher", "1", "1"], ["teacher", "2", "2"]]
    assert float(teacher[0][3]) == pytest.approx(0.7242, abs=1e-4)
    assert "report/frontier.png" in outcome.out
    assert "teacher at K = 2" in outcome.err


@pytest.mark.parametrize(("num_dims", "num_states"), [(4, 2), (4, 3), (5, 2), (6, 2)])
def test_the_teacher_s_total_variation_is_the_closed_form(program, num_dims, num_states):
    """Pairs: K steps reveal a pair together with probability 1/K, and then it is wrong unless by chance."""
    toy = [f"codec.num_dims={num_dims}", f"codec.num_states={num_states}", "dataset.joint=pairs"]
    rows = program.ok("eval", "toy", *toy, "--steps", "1,2,4", "--num", 10, "--json").json["rows"]
    assert [row["steps"] for row in rows] == [1, 2, 4]
    for row in rows:
        right = (1 - (1 - 1 / num_states) / row["steps"]) ** (num_dims // 2)
        assert row["metrics"]["tv"] == pytest.approx(1 - right, abs=1e-9)


def test_distill_ends_with_the_comparison(program):
    result = program.ok("distill", "toy", *TINY, "eval.steps=[1,2]", "--json").json
    run = program.runs / "toy/student-1"
    assert result["run"] == str(run)
    assert result["checkpoint"] == str(run / "final")
    assert result["step"] == 40
    assert result["seconds"] > 0
    assert {"loss", "loss/marginal", "loss/datapoint", "loss/consistency"} <= result["final"].keys()
    assert {"correlation", "marginal_plus_correlation", "effective_components"} <= result["final"].keys()
    assert result["previews"] == [str(run / "samples/step-40/samples.txt")]
    pairs = [(row["model"], row["steps"]) for row in result["evaluation"]["rows"]]
    assert pairs == list(itertools.product(["teacher", "student"], [1, 2]))
    # an exact teacher and a network compare
    verdicts = [(v["steps"], v["against_steps"]) for v in result["evaluation"]["verdict"]]
    assert verdicts == [(1, 2), (1, 1), (2, 2)]
    assert (run / "eval/results.json").is_file()
    shown = program.ok("runs", "show", "latest", "--json").json
    assert (shown["state"], shown["step"], shown["role"]) == ("finished", 40, "student")
