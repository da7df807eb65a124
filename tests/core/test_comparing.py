"""Rows of an evaluation side by side, made by hand: verdicts, marks, perplexity at equal entropy."""

import math

import pytest
import torch

from di4c_cli import report, telling
from di4c_cli.comparing import Measured, compared
from di4c_cli.core.metrics import PerItem

DIRECTIONS = {
    "valid": "higher",
    "nll_bound": "lower",
    "fd": "lower",
    "judge_ppl": "lower",
    "entropy": "report",
}


def measured(model, steps, seed=0, temperature=1.0, **values):
    told = {"model": model, "steps": steps, "nfe": steps, "temperature": temperature, "final": "sample"}
    told |= {"precision": "float32", "num": 400, "seed": seed}
    return Measured(told, values, 0.001)


def share(p, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PerItem.mean((torch.rand(400, generator=generator) < p).double())


def bound(mean):
    return PerItem.mean(torch.randn(400, generator=torch.Generator().manual_seed(1)) + mean, held_out=True)


def result(*rows):
    return {"source": "x", "reference": {}, "directions": DIRECTIONS, **compared(rows, DIRECTIONS)}


def quality(p, nats, **more):
    return {"valid": share(p), "nll_bound": bound(nats), "fd": 1.0, **more}


@pytest.fixture
def plain():
    """A student that is ahead at 1 step, even at 2, and behind at 4, of its teacher at twice the steps."""
    teacher = {1: (0.1, 60), 2: (0.3, 50), 4: (0.5, 40), 8: (0.7, 30)}
    student = {1: (0.5, 45), 2: (0.5, 40), 4: (0.4, 39), 8: (0.6, 38)}
    rows = [measured("teacher", k, **quality(*v)) for k, v in teacher.items()]
    rows += [measured("student", k, **quality(*v)) for k, v in student.items()]
    return result(*rows)


def test_the_verdict_of_each_metric_and_step_count(plain):
    said = {(v["metric"], v["steps"], v["against_steps"]): v["says"] for v in plain["verdict"]}
    for metric in ("valid", "nll_bound"):
        assert [said[metric, k, 2 * k] for k in (1, 2, 4)] == ["better", "equal", "worse"]
    assert said["nll_bound", 1, 1] == said["nll_bound", 2, 2] == "better"
    assert said["nll_bound", 8, 8] == "worse"
    assert ("nll_bound", 8, 16) not in said
    assert {says for (metric, *_), says in said.items() if metric == "fd"} == {"unknown"}
    entry = plain["verdict"][0]
    assert entry.keys() == {
        *("metric", "model", "steps", "against", "against_steps", "temperature", "final", "precision"),
        *("difference", "low", "high", "says", "not_comparable"),
    }
    assert (entry["model"], entry["against"]) == ("student", "teacher")
    assert entry["low"] < entry["difference"] < entry["high"]


def test_rows_carry_their_intervals(plain):
    row = plain["rows"][0]
    assert row["metrics"].keys() == {"valid", "nll_bound", "fd"}
    assert row["intervals"].keys() == {"valid", "nll_bound"}
    low, high = row["intervals"]["nll_bound"]
    assert low < row["metrics"]["nll_bound"] < high


def test_the_verdict_in_words(plain):
    words = "beats the teacher at twice the steps; at 2 no difference can be told; at 4 it is worse"
    lines = telling.verdict_lines(plain)
    assert lines[:2] == [f"valid: student at 1 {words}", f"nll_bound: student at 1 {words}"]
    assert lines[2:] == ["fd: one seed gives no interval; --seeds 0,1,2 does"]
    text = report.document(plain)
    assert "## Does the student keep up with twice the steps?" in text
    assert f"- {lines[0]}\n" in text
    table = [line for line in text.split("## ")[1].splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {6}


def test_an_only_clause_names_the_teacher(plain):
    for steps, words in ((2, "cannot be told from"), (4, "is worse than")):
        only = dict(plain, verdict=[v for v in plain["verdict"] if v["steps"] == steps])
        line = f"valid: student at {steps} {words} the teacher at twice the steps"
        assert telling.verdict_lines(only)[0] == line


def test_an_older_result_has_no_verdict(plain):
    older = {key: value for key, value in plain.items() if key not in ("verdict", "matched_entropy")}
    assert telling.verdict_lines(older) == []
    assert "##" not in report.document(older)


def test_another_entropy_is_marked_and_the_quality_of_samples_with_it():
    rows = [
        measured("teacher", 1, **quality(0.1, 60, entropy=3.3)),
        measured("teacher", 2, **quality(0.3, 50, entropy=3.0)),
        measured("student", 1, **quality(0.9, 45, entropy=2.85)),
        measured("student", 2, **quality(0.9, 45, entropy=2.95)),
    ]
    found = result(*rows)
    marked = [(row["model"], row["steps"]) for row in found["rows"] if row.get("not_comparable")]
    assert marked == [("student", 1)]  # 0.15 below the teacher's at 2, and the other 0.05 below it
    said = {(v["metric"], v["steps"], v["against_steps"]): v["not_comparable"] for v in found["verdict"]}
    assert said["valid", 1, 2]
    assert said["valid", 1, 1]
    assert not said["valid", 2, 2]
    assert not said["nll_bound", 1, 2]  # held-out data cannot be gamed
    text = report.document(found)
    assert "| student † | 1 |" in text
    assert "| student | 2 |" in text
    assert "† entropy more than 0.1 nats from the teacher's: quality figures are not comparable." in text
    assert "valid: student at 1† beats" in text
    assert "†" not in report.document(result(*rows[:2], rows[3]))


def test_collapse_is_marked_over_all_seeds():
    rows = [measured("teacher", 2, seed, fd=2.0, entropy=3.0) for seed in (0, 1)]
    rows += [measured("student", 1, seed, fd=1.0, entropy=entropy) for seed, entropy in ((0, 2.5), (1, 2.95))]
    assert [row.get("not_comparable", False) for row in result(*rows)["rows"]] == [False, False, True, True]


def tempered_rows():
    def text(model, steps, temperature, nats, entropy):
        perplexity = PerItem(torch.full((400,), nats), torch.ones(400), exponential=True)
        return measured(model, steps, temperature=temperature, judge_ppl=perplexity, entropy=entropy)

    return [
        text("teacher", 1, 1.0, 5.0, 4.5),
        text("teacher", 2, 0.9, 3.5, 3.6),
        text("teacher", 2, 1.0, 4.0, 4.0),
        text("student", 1, 0.8, 2.0, 3.0),
        text("student", 1, 0.9, 3.0, 3.75),
        text("student", 1, 1.0, 4.0, 4.25),
    ]


def test_perplexity_at_the_teacher_s_entropy():
    found = result(*tempered_rows())["matched_entropy"]
    assert [(m["steps"], m["against_steps"], m["entropy"]) for m in found] == [(1, 2, 4.0), (1, 1, 4.5)]
    assert found[0]["metric"] == "judge_ppl"
    assert found[0]["value"] == pytest.approx(math.exp(3.5))  # half way between T = 0.9 and 1
    assert found[0]["against_value"] == pytest.approx(math.exp(4))
    assert found[1]["value"] is None
    text = report.document(result(*tempered_rows()))
    assert "| judge_ppl | student | 1 | 1 | 4.5 | out of range | 148.4 |" in text
    assert "| model | K | T | NFE |" in text
    one_temperature = [row for row in tempered_rows() if row.told["temperature"] == 1]
    assert result(*one_temperature)["matched_entropy"] == []


def test_perplexity_against_entropy_is_drawn(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda canvas, path, **_: (drawn.append(canvas), path.touch()))
    report.write_frontier(result(*tempered_rows()), tmp_path / "frontier.png")
    axes = drawn[0].axes[-1]
    assert axes.get_xlabel().startswith("entropy, nats")
    lines = [line for line in axes.get_lines() if line.get_label() in ("teacher", "student")]
    assert [line.get_xdata().tolist() for line in lines] == [[4.5], [3.6, 4.0], [3.0, 3.75, 4.25]]
    assert {text.get_text() for text in axes.texts} == {"1", "2"}
    # the other panels are of T = 1
    assert drawn[0].axes[0].get_lines()[0].get_xdata().tolist() == [1, 2]
