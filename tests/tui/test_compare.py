"""Runs compared: curves over each other, what differs in their recipes, coming and going."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from canned_evaluation import evaluation, write_evaluation
from canned_run import make_run, training_row
from driving import drive, press, refresh, watch
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Input

from di4c_cli.cli.runs import diff
from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.braille import dash_sample
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.screens.compare import CompareScreen
from di4c_cli.tui.screens.runs import RunsScreen
from di4c_cli.tui.settings import Settings
from di4c_cli.tui.widgets import PALETTE, inks
from di4c_cli.tui.widgets.evaluation_view import EvaluationTable
from di4c_cli.tui.widgets.loss_plot import LossPlot
from di4c_cli.tui.widgets.recipe_view import DifferencesView
from di4c_cli.tui.widgets.runs_legend import RunsLegend


def with_recipe(run: RunDirectory, values: dict[str, Any]) -> RunDirectory:
    run.write_resolved({"values": {key: {"value": v, "origin": "recipe"} for key, v in values.items()}})
    return run


def some_runs(root: Path, number: int) -> list[RunDirectory]:
    runs = [make_run(root, rows=20, previews=(), step=300 + 40 * n) for n in range(number)]
    for latents, run in enumerate(runs, 4):
        with_recipe(run, {"train.steps": 1000, "student.num_latents": latents})
        write_evaluation(run, evaluation(run.name))
    return runs


def legend(app: MonitorApp) -> str:
    return "\n".join(strip.text for strip in app.screen.query_one(RunsLegend).draw())


def charts(app: MonitorApp) -> dict[str, str]:
    """Legend, labels and border of every chart, by its title; in the order in which they stand."""
    return {
        str(plot.border_title): "\n".join(strip.text for strip in plot.draw())
        for plot in app.screen.query(LossPlot)
        if plot.display
    }


def differences(app: MonitorApp) -> dict[str, list[Text]]:
    table = app.screen.query_one(DifferencesView).query_one(DataTable)
    rows = [table.get_row_at(number) for number in range(table.row_count)]
    return {key.plain: cells for key, *cells in rows}


# -- curves ------------------------------------------------------------------------------------


def test_metrics_in_common_share_a_chart_and_others_have_their_own(tmp_path: Path) -> None:
    digits, words = make_run(tmp_path, previews=()), make_run(tmp_path, recipe="words", rows=0)
    for step in range(1, 50):
        words.append_metrics({"step": step, "loss": 3.25, "perplexity": 20.0, "lr": 1e-3})

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        shown = charts(app)
        loss = figure(training_row(600, 1000, "student")["loss"])
        for piece in (f"1 digits/student-1 {loss}", "2 words/student-1 3.25"):
            assert piece in shown["loss"]
        assert "words" not in shown["correlation"]
        assert "digits" not in shown["perplexity"]
        assert next(iter(shown)) == "loss"
        assert list(shown)[-1] == "memory, MB"
        for number, run in enumerate((digits, words), 1):
            ink = PALETTE[app.colours.of(run.name)].rich_color
            named = [
                segment
                for widget in (app.screen.query_one(RunsLegend), *app.screen.query(LossPlot))
                for strip in widget.draw()
                for segment in strip
                if segment.text.startswith(f"{number} ") and run.name in segment.text
            ]
            assert len(named) > 2
            assert {segment.style.color for segment in named} == {ink}

    drive(watch(digits, words, plain=False, settings=Settings(compare="", columns=1)), act)


def test_any_name_of_a_metric_has_a_chart(tmp_path: Path) -> None:
    names = ["loss/a", "loss-a", "loss_a", "loss/é", "loss/è", "", "1", "x y", "[bold]", "ü" * 60]
    runs = [make_run(tmp_path, rows=0, previews=()) for _ in range(2)]
    for run in runs:
        run.append_metrics({"step": 1} | dict.fromkeys(names, 1.0))

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert len([plot for plot in app.screen.query(LossPlot) if plot.display]) == len(names)

    drive(watch(*runs), act)


def test_metrics_that_come_late_take_their_place(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, rows=0, previews=()) for _ in range(2)]
    for run in runs:
        run.append_metrics({"step": 1, "lr": 0.1, "grad_norm": 1.0})

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert list(charts(app)) == ["grad norm", "learning rate"]
        runs[1].append_metrics({"step": 2, "loss": 1.0, "loss/term": 1.0, "correlation": 3.0})
        await refresh(app, pilot)
        assert list(charts(app)) == ["loss", "correlation", "loss: term", "grad norm", "learning rate"]

    drive(watch(*runs), act)


def test_the_cursor_and_the_axis_are_common_to_all_runs(tmp_path: Path) -> None:
    runs = some_runs(tmp_path, 2)
    for step in range(1, 30):
        runs[1].append_metrics({"step": 400 + step, "loss": 2.5})  # tells no times from here on

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "left", *["ctrl+left"] * 2)
        at = app.screen.view.cursor
        row = training_row(int(at // 15 * 15), 1000, "student")  # a row every 15 steps
        assert f"1 student-1 {figure(row['loss'])}" in charts(app)["loss"]
        await press(app, pilot, "x")
        assert "0:34" in charts(app)["loss"]

    drive(watch(*runs, settings=Settings(columns=1, compare="")), act)


def test_a_run_without_times_is_not_drawn_over_time(tmp_path: Path) -> None:
    timed, other = make_run(tmp_path, previews=()), make_run(tmp_path, rows=0)
    for step in range(1, 30):
        other.append_metrics({"step": step, "loss": 1000.0 + step})

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        before = charts(app)["loss"]
        await press(app, pilot, "x")
        assert "1:00" in charts(app)["loss"]
        assert "2 student-2 1029" in charts(app)["loss"]
        assert "1000┤" in before
        assert "1000┤" not in charts(app)["loss"]

    drive(watch(timed, other, settings=Settings(columns=1, compare="")), act)


# -- runs that come, train and go --------------------------------------------------------------


def test_runs_come_train_and_go_while_they_are_compared(tmp_path: Path) -> None:
    first, second = some_runs(tmp_path, 2)
    third = RunDirectory(tmp_path / "digits" / "student-3")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "waiting" in legend(app).splitlines()[2]
        assert "3 student-3" not in charts(app)["loss"]
        assert [cell.plain for cell in differences(app)["student.num_latents"]] == ["4", "5", "–"]
        some_runs(tmp_path, 1)
        await refresh(app, pilot)
        assert "running" in legend(app).splitlines()[2]
        assert "3 student-3" in charts(app)["loss"]
        assert [cell.plain for cell in differences(app)["student.num_latents"]] == ["4", "5", "4"]
        third.append_metrics({"step": 900, "loss": 55.5})
        await refresh(app, pilot)
        assert "3 student-3 55.5" in charts(app)["loss"]
        assert "55.5" in legend(app)
        figures = app.screen.query_one(EvaluationTable).row_count
        shutil.rmtree(second.path)
        await refresh(app, pilot)
        assert "deleted" in legend(app).splitlines()[1]
        assert "2 student-2" in charts(app)["loss"]
        assert [cell.plain for cell in differences(app)["student.num_latents"]] == ["4", "5", "4"]
        assert app.screen.query_one(EvaluationTable).row_count == figures
        headings = [str(c.label) for c in app.screen.query_one(EvaluationTable).ordered_columns]
        assert any("2 student" in heading for heading in headings)
        write_evaluation(first, "{")  # of a run that is still there, a damaged file is none
        await refresh(app, pilot)
        headings = [str(c.label) for c in app.screen.query_one(EvaluationTable).ordered_columns]
        assert not any("1 student" in heading for heading in headings)

    drive(watch(first, second, third, settings=Settings(columns=1)), act, (160, 40))


def test_all_runs_are_still_to_come(tmp_path: Path) -> None:
    runs = [RunDirectory(tmp_path / "digits" / f"student-{number}") for number in (1, 2)]

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert legend(app).count("waiting") == 2
        for piece in ("evaluation: none yet", "recipes: none yet"):
            assert piece in screen_text(app)
        await press(app, pilot, "left", "plus", "m", "x", "y", "slash", "escape", "0")
        some_runs(tmp_path, 2)
        assert "recipes: what differs" in await refresh(app, pilot)

    drive(watch(*runs), act)


def test_the_same_run_twice_is_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert isinstance(app.screen, CompareScreen)
        assert charts(app)["loss"].count("student-1") == 0  # one curve needs no legend
        assert len(app.screen.history[run.path].steps) == 60

    drive(watch(run, run), act)


# -- many runs, any size -----------------------------------------------------------------------


@pytest.mark.slow
def test_eight_runs_are_all_told_in_any_size(tmp_path: Path) -> None:
    runs = some_runs(tmp_path, 8)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        lines = legend(app).splitlines()
        assert len(lines) == 8
        for number, run in enumerate(runs, 1):
            assert all(
                piece in lines[number - 1] for piece in (str(number), run.path.name, "running", "loss")
            )
        for size in ((80, 24), (120, 30), (50, 14)):
            await pilot.resize_terminal(*size)
            await settle(app, pilot)
            view = app.screen.query_one(RunsLegend)
            assert view.size.height <= size[1] // 4
            text = "\n".join(legend(app).splitlines()[: view.size.height])
            assert all(f"{number} " in text for number in range(1, 9)), (size, text)
        await pilot.resize_terminal(120, 40)
        await press(app, pilot, "m")
        shown = charts(app)["loss"]
        assert all(f"{number} student-{number} " in shown for number in range(1, 9))

    drive(watch(*runs), act)


@pytest.mark.slow
def test_a_tiny_terminal_compares_too(tmp_path: Path) -> None:
    runs = some_runs(tmp_path, 3)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert all(f"{number} " in screen_text(app).splitlines()[0] for number in (1, 2, 3))
        for size in ((1, 1), (200, 60), (20, 5)):
            await pilot.resize_terminal(*size)
            await pilot.press(*"123", "m", "left", "slash", "a", "escape", "escape")
            lines = (await settle(app, pilot)).splitlines()
            assert len(lines) <= size[1]
            assert all(len(line) <= size[0] for line in lines)
            assert isinstance(app.screen, CompareScreen)

    drive(watch(*runs), act, (20, 5))


def test_without_colours_a_run_has_its_pattern_everywhere(tmp_path: Path) -> None:
    runs = some_runs(tmp_path, 3)
    runs[2].append_metrics({"step": 700, "only_here": 1.0})
    runs[1].append_metrics({"step": 700, "only_here": 1.0})

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for number, line in enumerate(legend(app).splitlines()):
            assert dash_sample(number, 4) in line
        shown = charts(app)
        for title, numbers in (("loss", (1, 2, 3)), ("only here", (2, 3))):
            for number in numbers:
                assert f"{dash_sample(number - 1, 2)} {number} student-{number}" in shown[title]

    drive(watch(*runs, settings=Settings(compare="", columns=1)), act)


# -- recipes -----------------------------------------------------------------------------------

ONE = {
    "train.steps": 10,
    "same": [1, {"a": None}],
    "lr": 1,
    "flag": True,
    "text": "a",
    "gone": 3,
    "null": None,
}
OTHER = {
    "train.steps": 20,
    "same": [1, {"a": None}],
    "lr": 1.0,
    "flag": 1,
    "text": "ä",
    "new": [],
    "list": [1],
}


def test_differences_are_those_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [with_recipe(make_run(tmp_path, previews=()), values) for values in (ONE, OTHER)]
    diff(str(runs[0].path), str(runs[1].path), json=True)
    expected = json.loads(capsys.readouterr().out)["differences"]
    assert {"train.steps", "text", "gone", "new", "list"} == set(expected)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        shown = {key: [json.loads(c.plain) for c in cells] for key, cells in differences(app).items()}
        assert shown == expected
        assert "recipes: what differs" in screen_text(app)
        assert "5 values" in screen_text(app)

    drive(watch(*runs), act)


def test_border_of_the_differences(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, previews=()), make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        view = app.screen.query_one(DifferencesView)
        for one, other, title, number in (
            ({}, {}, "recipes: none yet", "0 values"),
            ({"a": 1}, {}, "recipes: none yet", "0 values"),
            ({"a": 1}, {"a": 1}, "recipes: the same values", "0 values"),
            ({"a": 1}, {"a": 2}, "recipes: what differs", "1 value"),
            ({"a": 1, "b": 1}, {"a": 2, "b": 2}, "recipes: what differs", "2 values"),
        ):
            with_recipe(first, one)
            with_recipe(second, other)
            await refresh(app, pilot)
            assert (view.border_title, view.border_subtitle) == (title, number)
        await press(app, pilot, "slash", "a")
        assert view.border_subtitle == "1 of 2 values"

    drive(watch(first, second), act)


def test_the_filter_takes_all_keys_and_escape_closes_it(tmp_path: Path) -> None:
    keys = {f"key{number}": number for number in range(12)}
    runs = [with_recipe(make_run(tmp_path, previews=()), values) for values in (keys, {})]
    with_recipe(runs[1], {key: value + 100 for key, value in keys.items()})
    settings = Settings()

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        screen, view = app.screen, app.screen.query_one(DifferencesView)
        words, table = view.query_one(Input), view.query_one(DataTable)
        await press(app, pilot, "slash")
        assert app.focused is words
        await press(app, pilot, *"q1x h0")
        assert (words.value, app.screen, settings.compare, settings.axis) == (
            *("q1x h0", screen, "evaluation differences", "step"),
        )
        assert table.row_count == 0
        await press(app, pilot, "escape")
        assert (app.screen, app.focused, words.value, words.display) == (screen, table, "", False)
        assert table.row_count == 12
        await press(app, pilot, "slash", *"key1", "enter")
        assert app.focused is table
        assert list(differences(app)) == ["key1", "key10", "key11"]
        await press(app, pilot, "escape")  # from the table, with a filter on it
        assert (app.screen, words.display, table.row_count) == (screen, False, 12)
        await press(app, pilot, "slash", "enter")  # nothing filtered: no empty line stays
        assert not words.display
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RunsScreen)

    drive(watch(*runs, settings=settings), act)


def test_the_table_follows_the_theme(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for theme in ("textual-light", "nord"):
            app.theme = theme
            await pilot.pause()
            (cells,) = differences(app).values()
            view = app.screen.query_one(DifferencesView)
            assert [str(cell.style) for cell in cells] == [
                inks(view)[ink].rich_color.name for ink in app.screen.colours
            ]

    drive(watch(*some_runs(tmp_path, 2), plain=False), act)
