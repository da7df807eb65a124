"""Evaluations: every figure as results.json has it, whatever that holds; the frontier of one metric."""

import copy
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from canned_evaluation import STEPS, evaluation, write_evaluation
from canned_run import make_run
from driving import drive, press, refresh, watch
from textual.color import Color
from textual.pilot import Pilot

from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.evaluation import Evaluation, read_evaluation
from di4c_cli.tui.frame import screen_text
from di4c_cli.tui.settings import Settings
from di4c_cli.tui.widgets import PALETTE, inks
from di4c_cli.tui.widgets.evaluation_view import EvaluationTable, EvaluationView, Judged, frontier, sides
from di4c_cli.tui.widgets.frontier import MARKS, FrontierPlot

Table = dict[tuple[str, int, str], str]


def shown_table(app: MonitorApp) -> Table:
    """What the table tells: by metric, sampling steps and heading."""
    table = app.screen.query_one(EvaluationTable)
    headings = [column.label.plain.strip() for column in table.ordered_columns]
    told: Table = {}
    metric = ""
    for number in range(table.row_count):
        title, steps, *cells = [cell.plain.strip() for cell in table.get_row_at(number)]
        metric = title.split(" ")[0] or metric
        for heading, cell in zip(headings[2:], cells, strict=True):
            told[metric, int(steps), heading] = cell
    return told


def expected(
    content: dict[str, Any], metric: str, steps: int, model: str, weight: float | None = None
) -> str:
    values = [
        row["metrics"][metric]
        for row in content["rows"]
        if (row["model"], row["steps"], row["guidance"]) == (model, steps, weight)
    ]
    if not values:
        return "–"
    spread = f" ±{figure(float(f'{statistics.stdev(values):.2g}'))}" if len(values) > 1 else ""
    return figure(statistics.fmean(values)) + spread


def read(folder: Path, content: dict[str, Any] | str) -> Evaluation | None:
    run = make_run(folder, rows=0, previews=())
    write_evaluation(run, content)
    return read_evaluation(run.path / "eval" / "results.json")


# -- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_every_figure_is_that_of_the_file(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    run, content = make_run(tmp_path, previews=()), evaluation(seeds=seeds)
    write_evaluation(run, content)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        told = shown_table(app)
        for mark, model in zip(MARKS, ("teacher", "student", "hybrid"), strict=False):
            for metric in ("fd_test", "fd", "precision"):
                for k in STEPS:
                    assert told[metric, k, f"{mark} {model}"] == expected(content, metric, k, model)
        assert [told[metric, 1, "real data"] for metric in ("fd_test", "fd", "precision")] == [
            "0.25",
            "0.125",
            "",
        ]
        assert list(dict.fromkeys(metric for metric, *_ in told)) == ["fd_test", "fd", "precision"]

    drive(watch(run, settings=Settings(side="evaluation")), act)


def test_the_best_figure_of_a_row_is_bold(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    content = evaluation(models=("teacher", "student"))
    for row in content["rows"]:
        row["metrics"]["no direction"] = 1.0
    write_evaluation(run, content)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        table = app.screen.query_one(EvaluationTable)
        rows = [table.get_row_at(number) for number in range(table.row_count)]
        bold = [["bold" in str([cell.style, *cell.spans]) for cell in row[2:4]] for row in rows]
        assert bold == [[False, True]] * 9 + [[False, False]] * 3

    drive(watch(run, settings=Settings(side="evaluation")), act)


def test_guidance_weights_are_told_and_share_the_colour_of_their_model(tmp_path: Path) -> None:
    run, content = make_run(tmp_path, previews=()), evaluation(weights=(0.0, 2.5), seeds=(0, 1))
    write_evaluation(run, content)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        told = shown_table(app)
        for weight in (0.0, 2.5):
            (heading,) = {name for *_, name in told if name.endswith(f"student w={weight:g}")}
            assert told["fd", 2, heading] == expected(content, "fd", 2, "student", weight)
        _, _, lines, _ = frontier([Judged(read_evaluation(run.path / "eval" / "results.json"))])
        assert [line.ink for line in lines] == [1, 1, 0, 0, 2, 2]
        assert len({line.mark for line in lines}) == 6

    drive(watch(run, settings=Settings(side="evaluation")), act)


def test_one_weight_needs_no_telling(tmp_path: Path) -> None:
    assert read(tmp_path, evaluation(weights=(2.0,))).models == ("teacher", "student", "hybrid")


def test_temperatures_stand_apart(tmp_path: Path) -> None:
    content = evaluation(models=("teacher", "student"))
    colder = [row | {"temperature": 0.9, "metrics": {"fd": 7.0}} for row in content["rows"]]
    found = read(tmp_path, content | {"rows": content["rows"] + colder})
    assert found.models == ("teacher T=1", "student T=1", "teacher T=0.9", "student T=0.9")
    assert found.kind("student T=0.9") == "student"
    assert found.figure("student T=0.9", 2, "fd").mean == 7.0
    assert f"{found.figure('student T=1', 2, 'fd').mean:.4g}" != "7"


# -- whatever the file holds -------------------------------------------------------------------


def test_what_cannot_be_computed_is_a_dash(tmp_path: Path) -> None:
    content = evaluation()
    values = [None, float("nan"), float("inf"), 1e300, "0.5", True, 10**400]
    for row, value in zip(content["rows"], values, strict=False):
        row["metrics"]["fd"] = value
    content["reference"] = {"fd": None, "fd_test": float("nan")}
    run = make_run(tmp_path, previews=())
    write_evaluation(run, content)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        told = shown_table(app)
        figures = {cell for (metric, *_), cell in told.items() if metric == "fd"}
        assert figures <= {"–", "", figure(content["rows"][-1]["metrics"]["fd"])}
        assert told["fd_test", 2, "■ student"] == expected(content, "fd_test", 2, "student")
        app.screen.query_one(EvaluationTable).focus()
        await press(app, pilot, "down", "down", "down", "down")
        assert "<svg" in app.export_screenshot()

    drive(watch(run, settings=Settings(side="evaluation")), act)


def damaged() -> list[str]:
    whole = evaluation()
    texts = ["", "{", "[]", "null", "7", "{}", json.dumps(whole)[:-200], '{"rows": 3}', "[" * 100_000]
    for key, value in (
        *(("steps", value) for value in (None, "many", 1e999, [])),
        *(("seconds_per_sample", value) for value in (None, "slow")),
        *(("guidance", "much"), ("metrics", None), ("metrics", [1.0])),
    ):
        other = copy.deepcopy(whole)
        other["rows"][2][key] = value
        texts.append(json.dumps(other))
    for key in ("rows", "reference", "directions"):
        texts += [json.dumps({**whole, key: value}) for value in (None, 3, [3])]
    return texts


def test_a_damaged_file_is_no_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in damaged():
        path.write_text(text)
        assert read_evaluation(path) is None, text[:80]
    path.write_bytes(b"\xff\xfe\x00")
    assert read_evaluation(path) is None
    path.unlink()
    path.mkdir()
    assert read_evaluation(path) is None


def test_an_evaluation_comes_is_damaged_and_comes_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        points = app.screen.query_one("#plot-evaluation", FrontierPlot)
        assert "evaluation: none yet" in screen_text(app)
        assert not points.display
        for content in (evaluation(), evaluation("other", seeds=(1, 2)), {**evaluation(), "rows": []}):
            write_evaluation(run, content)
            text = await refresh(app, pilot)
            if content["rows"]:
                assert "evaluation · Fréchet distance to held-out data ↓" in text
                assert points.display
                assert shown_table(app)["fd", 1, "■ student"] == expected(content, "fd", 1, "student")
        assert "evaluation: none yet" in text
        write_evaluation(run, "{")
        assert "evaluation: none yet" in await refresh(app, pilot)
        write_evaluation(run, evaluation())
        assert "fd_test ↓" in await refresh(app, pilot)

    drive(watch(run, settings=Settings(side="evaluation")), act)


# -- the frontier ------------------------------------------------------------------------------


def test_the_row_under_the_cursor_chooses_what_is_drawn_and_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    write_evaluation(run, evaluation())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        table, view = app.screen.query_one(EvaluationTable), app.screen.query_one(EvaluationView)
        assert view.metric == "fd_test"
        table.focus()
        await press(app, pilot, *["down"] * 7)
        assert (view.metric, table.cursor_row) == ("precision", 7)
        assert "evaluation · precision ↑" in screen_text(app)
        write_evaluation(run, evaluation("other"))
        await refresh(app, pilot)
        assert (view.metric, table.cursor_row) == ("precision", 7)
        app.theme = "textual-light"
        await refresh(app, pilot)
        assert (view.metric, table.cursor_row) == ("precision", 7)
        less = evaluation()
        for row in less["rows"]:
            del row["metrics"]["precision"]
        write_evaluation(run, less)
        assert "Fréchet distance to held-out data" in await refresh(app, pilot)

    drive(watch(run, settings=Settings(side="evaluation")), act)


def test_headings_follow_the_theme(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())
    write_evaluation(run, evaluation())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        table = app.screen.query_one(EvaluationTable)
        for theme in ("textual-light", "nord"):
            app.theme = theme
            await pilot.pause()
            student = table.ordered_columns[3].label
            assert inks(table)[0].rich_color.name in str([student.style, *student.spans])

    drive(watch(run, settings=Settings(side="evaluation")), act)


def judged(folder: Path, *contents: dict[str, Any]) -> list[Judged]:
    return [Judged(read(folder, content), str(n), n + 2) for n, content in enumerate(contents, 1)]


def test_a_common_teacher_is_told_once_and_a_lone_student_by_its_run(tmp_path: Path) -> None:
    shown = sides(judged(tmp_path, evaluation("a"), evaluation("b"), evaluation("c", seeds=(0, 1))))
    assert [side.name for side in shown] == [
        *("teacher", "1 student", "1 hybrid", "2 student", "2 hybrid"),
        *("3 teacher", "3 student", "3 hybrid"),
    ]
    assert [side.ink for side in shown] == [None, 3, 3, 4, 4, 5, 5, 5]


def test_a_model_has_its_mark_in_all_runs_and_its_own_without_colours(tmp_path: Path) -> None:
    runs = judged(tmp_path, evaluation("a"), evaluation("b", models=("student",)))
    assert [side.mark for side in sides(runs)] == [0, 1, 2, 1]
    assert [side.mark for side in sides(runs, plain=True)] == [0, 1, 2, 3]


def test_what_runs_have_in_common_lies_below(tmp_path: Path) -> None:
    """A student that is no better than its teacher hides it, rather than the other way round."""
    lazy = evaluation("b", models=("teacher", "student"))
    teacher = {row["steps"]: row["metrics"]["fd_test"] for row in lazy["rows"] if row["model"] == "teacher"}
    for row in lazy["rows"]:
        row["metrics"]["fd_test"] = teacher[row["steps"]] + 1e-9 * (row["model"] == "student")
    runs = [make_run(tmp_path, previews=()) for _ in range(2)]
    write_evaluation(runs[0], evaluation("a"))
    write_evaluation(runs[1], lazy)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        plot = app.screen.query_one(FrontierPlot)
        drawn = [segment for strip in plot.draw() if set("│┤") & set(strip.text) for segment in strip]
        marks = {(segment.text, Color.from_rich_color(segment.style.color)) for segment in drawn}
        second = PALETTE[app.screen.colours[1]]
        assert ("■", second) in marks
        assert "●" not in {text for text, _ in marks}

    drive(watch(*runs, plain=False, settings=Settings(compare="evaluation")), act)


def test_without_colours_no_two_lines_look_the_same(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, previews=()) for _ in range(3)]
    for run in runs:
        write_evaluation(run, evaluation(run.name))

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        headings = [
            column.label.plain.strip() for column in app.screen.query_one(EvaluationTable).ordered_columns
        ]
        names = [heading for heading in headings if heading[0] in MARKS]
        assert len({name[0] for name in names}) == len({name[2:] for name in names}) == 7
        plot = app.screen.query_one(FrontierPlot)
        legend = "".join(strip.text for strip in plot.draw()[:2])
        assert all(name[0] in legend for name in names)

    drive(watch(*runs, settings=Settings(compare="evaluation")), act, (140, 40))
