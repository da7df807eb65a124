"""The report of an evaluation."""

import json

import pytest

from di4c_cli import figures, report


def result():
    def row(model, steps, seed, **metrics):
        return {
            "model": model, "steps": steps, "nfe": steps, "num": 100, "seed": seed,
            "metrics": metrics, "seconds_per_sample": 0.002 * steps,
        }  # fmt: skip

    return {
        "source": "checkpoints/digits/student-1",
        "reference": {"fd": 0.5, "copies": 0.01},
        "directions": {"fd": "lower", "valid": "higher", "copies": "report"},
        "rows": [
            row("teacher", 1, 0, fd=90.0, copies=0.0),
            row("teacher", 1, 1, fd=94.0, copies=0.0),
            row("teacher", 2, 0, fd=60.0, copies=0.0),
            row("student", 1, 0, fd=10.0, copies=0.0, extra=-3.0),
        ],
    }


def test_rows_of_one_model_and_step_count_become_mean_and_spread():
    groups = figures.aggregate(result()["rows"])
    assert [(g.model, g.steps, g.seeds) for g in groups] == [
        ("teacher", 1, 2),
        ("teacher", 2, 1),
        ("student", 1, 1),
    ]
    assert groups[0].metrics["fd"] == figures.Figure(92.0, pytest.approx(8**0.5))
    assert groups[1].metrics["fd"] == figures.Figure(60.0, 0.0)
    assert groups[1].seconds_per_sample == pytest.approx(0.004)


def test_table():
    lines = report.table(result()).splitlines()
    assert lines[0] == "# checkpoints/digits/student-1"
    assert lines[2] == "| model | K | NFE | fd ↓ | copies | extra | ms/sample |"
    assert lines[4] == "| teacher | 1 | 1 | 92 ± 2.8 | 0 |  | 2 |"
    assert lines[6] == "| student | 1 | 1 | 10 | 0 | -3 | 2 |"
    assert lines[7] == "| *real data* |  |  | 0.5 | 0.01 |  |  |"
    assert len({line.count("|") for line in lines[2:8]}) == 1
    assert "2 sampling seeds, 100 samples" in lines[9]


def test_a_standard_error_stands_behind_its_figure_not_in_a_column():
    data = result() | {"directions": {"nll_bound": "lower", "nll_bound_se": "report", "lone_se": "report"}}
    for row, (bound, error) in zip(
        data["rows"], [(50, 0.5), (54, 0.7), (42, 0.25), (3.21, 0.0234)], strict=True
    ):
        row["metrics"] = {"nll_bound": bound, "nll_bound_se": error, "lone_se": 7.0}
    lines = report.table(data).splitlines()
    assert lines[2] == "| model | K | NFE | nll_bound ↓ | lone_se | ms/sample |"
    assert lines[4] == "| teacher | 1 | 1 | 52 ± 2.8 | 7 | 2 |"  # the deviation over its two seeds
    assert lines[6] == "| student | 1 | 1 | 3.21 ± 0.023 | 7 | 2 |"
    one_seed = report.table(data | {"rows": data["rows"][2:]})
    assert "One sampling seed, ± standard error, 100 samples each" in one_seed
    assert "±" not in report.table(result() | {"rows": result()["rows"][2:]})


def test_no_floor_no_line():
    bare = result() | {"reference": {}}
    assert "*real data* |" not in report.table(bare)


def test_files(tmp_path):
    paths = report.write_report(result(), tmp_path / "new")
    assert [p.name for p in paths] == ["results.json", "results.md", "frontier.png"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in paths)
    assert json.loads(paths[0].read_text()) == result()
    assert paths[1].read_text() == report.table(result())
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def panels(monkeypatch, tmp_path, data):
    """The axes that a result is drawn on."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda canvas, path, **_: (drawn.append(canvas), path.touch()))
    report.write_frontier(data, tmp_path / "frontier.png")
    return drawn[0]


def test_frontier_draws_a_panel_a_metric_and_a_line_a_model(monkeypatch, tmp_path):
    canvas = panels(monkeypatch, tmp_path, result())
    assert [axes.get_title() for axes in canvas.axes] == [
        "Fréchet distance to training data ↓",
        "share of near copies",
    ]
    axes = canvas.axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {"teacher", "student", "real data"}
    assert lines["teacher"].get_xydata().tolist() == [[1, 92], [2, 60]]
    assert lines["real data"].get_linestyle() == "--"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xticks().tolist() == [1, 2]
    assert {text.get_text() for text in canvas.legends[0].get_texts()} == set(lines)


def test_frontier_of_an_unknown_metric(monkeypatch, tmp_path):
    data = result()
    for row in data["rows"]:
        row["metrics"] = {"mine": 1.0 * row["steps"]}
    assert [axes.get_title() for axes in panels(monkeypatch, tmp_path, data).axes] == ["mine"]
