"""The charts of a run: axes, cursor, zoom and enlargement by keys and by mouse; any values, any colours."""

import math
from pathlib import Path
from typing import Any

import pytest
from canned_run import make_run, training_row
from driving import drive, press, refresh, told, watch
from textual.color import Color
from textual.events import (
    MouseDown,
    MouseEvent,
    MouseMove,
    MouseScrollDown,
    MouseScrollLeft,
    MouseScrollRight,
    MouseScrollUp,
    MouseUp,
)
from textual.pilot import Pilot
from textual.widgets import DataTable

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.braille import dash_sample
from di4c_cli.tui.frame import settle
from di4c_cli.tui.screens.run import RunScreen
from di4c_cli.tui.screens.runs import RunsScreen
from di4c_cli.tui.series import Column
from di4c_cli.tui.settings import Settings
from di4c_cli.tui.widgets.loss_plot import LossPlot
from di4c_cli.tui.widgets.recipe_view import RecipeView

NAN = math.nan


def run_of(root: Path, rows: list[dict[str, Any]], role: str = "student") -> RunDirectory:
    """A run with these rows of metrics."""
    run = make_run(root, rows=0, previews=(), role=role)
    for row in rows:
        run.append_metrics(row)
    return run


def plot(app: MonitorApp, name: str = "loss") -> LossPlot:
    return app.screen.query_one(f"#plot-{name}", LossPlot)


def plots(app: MonitorApp) -> list[LossPlot]:
    return [plot for plot in app.screen.query(LossPlot) if plot.display]


def told_by(plot: LossPlot) -> str:
    """Legend, labels and border of a chart."""
    return "\n".join([*(strip.text for strip in plot.draw()), str(plot.border_subtitle)])


def window(app: MonitorApp) -> tuple[float, float]:
    return app.screen.view.span((10, 600))


def braille(text: str) -> str:
    return "".join(char for char in text if "⠀" < char <= "⣿")


async def mouse(
    app: MonitorApp, pilot: Pilot[None], event: type[MouseEvent], share: float, name: str = "loss"
) -> None:
    """A mouse event over a chart, at a share of its x axis."""
    chart = plot(app, name)
    columns = chart.content_size.width - chart.label_width - 1
    x = chart.content_offset.x + chart.label_width + round(share * columns)
    await pilot._post_mouse_events([event], chart, offset=(x, 4), button=1)
    await pilot.pause()


# -- values ------------------------------------------------------------------------------------

AWKWARD = {
    "zeros": [0.0] * 9,
    "negative": [-1.0, -2.0, -3.0],
    "nan": [NAN] * 5,
    "mixed": [1.0, -1.0, 0.0, NAN, 10.0, 1e-30, 1e30],
    "tiny": [1e-44, 1e-45, 0.0],
    "constant": [3.0] * 5,
    "single": [5.0],
}


def test_any_values_draw_on_both_axes(tmp_path: Path) -> None:
    """Compared runs have a chart for every metric."""
    rows = [
        {"step": n, "elapsed": n} | {name: v[n] for name, v in AWKWARD.items() if n < len(v)}
        for n in range(9)
    ]
    run, other = run_of(tmp_path, rows), make_run(tmp_path, rows=0)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert {plot.id for plot in plots(app)} == {f"plot-{name}" for name in AWKWARD}
        await press(app, pilot, "y")
        for name, values in AWKWARD.items():
            positive = any(value > 0 for value in values)
            text = told_by(plot(app, name))
            assert figure(values[-1]) in text
            assert ("log y" in text) == positive
            assert ("linear: nothing > 0" in text) == (not positive)
            assert ("≤ 0 hidden" in text) == (positive and any(value <= 0 for value in values))
        for key in ("S", "S", "S", "x", "left", "left", "plus", "plus", "m", "escape"):
            await pilot.press(key)
        assert "log y" in await settle(app, pilot)

    drive(watch(run, other, settings=Settings(compare="")), act, (110, 40))


def test_a_negative_value_beside_the_window_of_a_logarithmic_axis(tmp_path: Path) -> None:
    """A curve is drawn to the edge of its window, and half a column further."""
    losses = [-1.0 if n % 40 == 0 else 1.0 + n % 7 for n in range(1, 601)]
    run = run_of(tmp_path, [{"step": n, "loss": loss} for n, loss in enumerate(losses, 1)], "teacher")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "y", *["plus"] * 8)
        for _ in range(30):
            app.screen.action_pan(-0.1)
            assert braille(told_by(plot(app)))

    drive(watch(run, settings=Settings(smoothing=0, side="")), act, (90, 24))


def test_what_a_logarithmic_axis_sees_of_a_column_grows_with_it() -> None:
    column = Column()
    column.extend([1.0, 2.0])
    assert column.positive() is column
    for values in ([-1.0, 3.0], [0.0] * 200, [4.0, NAN]):
        column.extend(values)
        seen = column.positive()
        assert seen.values.tolist() == pytest.approx(
            [v if v > 0 else NAN for v in column.values], nan_ok=True
        )
        assert seen.extremes(0, len(seen))[0] == 1.0
    column.cut(3)
    column.extend([7.0])
    assert column.positive().values.tolist() == pytest.approx([1.0, 2.0, NAN, 7.0], nan_ok=True)


def test_every_chart_tells_its_scale_by_two_labels(tmp_path: Path) -> None:
    ranges = [(6.1, 9.3), (0.1, 1.9), (-2.4, 0.9), (130.0, 980.0), (2e-9, 1.9e-3), (-4.9, -0.1)]
    run, other = make_run(tmp_path, rows=0), make_run(tmp_path, rows=0)
    for end in (0, 1):
        run.append_metrics({"step": end} | {f"m{n}": ends[end] for n, ends in enumerate(ranges)})

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for size in ((120, 40), (110, 24), (80, 24), (40, 14)):
            await pilot.resize_terminal(*size)
            await press(app, pilot, "y")
            assert [plot.id for plot in plots(app) if sum("┤" in s.text for s in plot.draw()) < 2] == [], size

    drive(watch(run, other), act)


# -- the x axis --------------------------------------------------------------------------------


def test_x_goes_from_steps_to_time_and_back(tmp_path: Path) -> None:
    settings = Settings()

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "step 600" in told_by(plot(app))
        await press(app, pilot, "x")
        assert "1:00" in told_by(plot(app))  # after 600 steps of 0.1 s
        assert "step 600" not in told_by(plot(app))
        assert settings.axis == "time"
        await press(app, pilot, "left")
        assert figure(training_row(600, 1000, "student")["lr"]) in told_by(plot(app, "lr"))
        await press(app, pilot, "x")
        assert "step 600" in told_by(plot(app))
        assert settings.axis == "step"

    drive(watch(make_run(tmp_path, previews=()), settings=settings), act)


def test_rows_without_times_stay_on_steps(tmp_path: Path) -> None:
    run = run_of(tmp_path, [{"step": n, "loss": 1.0 / n} for n in range(1, 50)])
    settings = Settings(axis="time")  # remembered from another run

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "step 49" in told_by(plot(app))
        await press(app, pilot, "x")
        assert "step 49" in told_by(plot(app))
        assert "do not tell when" in told(app)
        assert settings.axis == "step"
        run.append_metrics({"step": 60, "loss": 1.0, "elapsed": 90.0})
        await refresh(app, pilot)
        await press(app, pilot, "x")
        assert "1:30" in told_by(plot(app))

    drive(watch(run, settings=settings), act)


def test_zoom_ends_where_there_are_only_a_few_rows(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for _ in range(60):
            app.screen.action_zoom(1)
        start, stop = window(app)
        assert 20 <= stop - start <= 80  # a row every 10 steps
        assert braille(told_by(plot(app)))
        for _ in range(60):
            app.screen.action_zoom(-1)
        assert window(app) == (10, 600)

    drive(watch(make_run(tmp_path, previews=())), act, (60, 16))


# -- the cursor --------------------------------------------------------------------------------


def assert_values_at(app: MonitorApp, step: int) -> None:
    row = training_row(step, 1000, "student")
    for kind in ("distillation", "consistency", "datapoint"):
        assert f"{kind} {figure(row[f'loss/{kind}'])}" in told_by(plot(app))
    assert f"sum {figure(row['marginal_plus_correlation'])}" in told_by(plot(app, "mixture"))
    for name, metric in (("components", "effective_components"), ("lr", "lr"), ("speed", "samples_per_s")):
        assert told_by(plot(app, name)).endswith(figure(row[metric]))


def test_the_cursor_tells_the_values_in_all_charts_at_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert_values_at(app, 600)
        for keys in (("left",), ("left",), ("ctrl+left",), ("left", "left", "right")):
            await pilot.press(*keys)
            cursor = app.screen.view.cursor
            assert all(f"▲ {cursor:,.0f}" in told_by(plot) for plot in plots(app))
            assert_values_at(app, int(cursor // 10 * 10))
        assert cursor < 500
        run.append_metrics({"step": 900, "loss": 77.0, "lr": 0.5})
        await refresh(app, pilot)
        assert_values_at(app, int(cursor // 10 * 10))
        await pilot.press("escape")
        assert "loss 77" in told_by(plot(app))

    drive(watch(run, plain=False, settings=Settings(side="")), act)


def test_the_mouse_points_and_drags(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for name in ("loss", "speed"):
            await mouse(app, pilot, MouseDown, 1.0, name)
            assert app.screen.view.cursor == 600
            await mouse(app, pilot, MouseMove, 0.5, name)
            assert app.screen.view.cursor == pytest.approx(305, abs=12)
            assert_values_at(app, int(app.screen.view.cursor // 10 * 10))
            await mouse(app, pilot, MouseUp, 0.0, name)
            before = app.screen.view.cursor
            await mouse(app, pilot, MouseMove, 0.9, name)  # let go
            assert app.screen.view.cursor == before
            assert app.mouse_captured is None

    drive(watch(make_run(tmp_path, previews=()), plain=False, settings=Settings(side="")), act)


def test_the_wheel_zooms_about_the_pointer_and_pans_sideways(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for _ in range(4):
            await mouse(app, pilot, MouseScrollUp, 0.25)
        start, stop = window(app)
        assert stop - start == pytest.approx(590 / 1.25**4)
        assert start + 0.25 * (stop - start) == pytest.approx(10 + 0.25 * 590, abs=6)
        await mouse(app, pilot, MouseScrollRight, 0.25)
        assert window(app)[0] == pytest.approx(start + 0.1 * (stop - start))
        await mouse(app, pilot, MouseScrollLeft, 0.25)
        assert window(app) == pytest.approx((start, stop))
        for _ in range(9):
            await mouse(app, pilot, MouseScrollDown, 0.9)
        assert window(app) == (10, 600)

    drive(watch(make_run(tmp_path, previews=()), settings=Settings(side="")), act)


def test_keys_pan_and_reset(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("plus", "plus", "plus")
        at_end = window(app)
        assert at_end[1] == 600
        assert app.screen.view.stop is None  # goes on following
        await pilot.press("shift+left", "shift+left")
        assert window(app)[1] < 600
        assert "step 600" not in told_by(plot(app))
        await pilot.press("shift+right", "shift+right", "shift+right")
        assert window(app) == pytest.approx(at_end)
        await pilot.press("left", "0")
        assert window(app) == (10, 600)
        assert app.screen.view.cursor is None

    drive(watch(make_run(tmp_path, previews=()), settings=Settings(side="")), act)


def test_keys_do_nothing_before_there_are_rows(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "left", "right", "plus", "minus", "shift+left", "0", "x", "y", "s", "m", "m")
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RunsScreen)

    drive(watch(make_run(tmp_path, rows=0, previews=())), act)


# -- layers and layout -------------------------------------------------------------------------


def test_escape_steps_out_one_layer_at_a_time(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        screen = app.screen
        await press(app, pilot, "plus", "left", "m")
        await press(app, pilot, "escape")
        assert screen.maximized is None
        assert screen.view.cursor is not None
        await press(app, pilot, "escape")
        assert screen.view.cursor is None
        assert window(app) != (10, 600)
        await press(app, pilot, "escape")
        assert window(app) == (10, 600)
        assert app.screen is screen
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RunsScreen)

    drive(watch(make_run(tmp_path, previews=())), act)


def test_a_chart_fills_the_screen_and_goes_back(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await pilot.press("tab", "tab")
        chart = plot(app, "mixture")
        small = chart.size
        for there, back in (("m", "m"), ("enter", "enter"), ("enter", "escape")):
            await pilot.press(there)
            await pilot.pause()
            assert app.screen.maximized is chart
            assert chart.size.width > 110
            await pilot.press(back)
            await pilot.pause()
            assert (app.screen.maximized, chart.size) == (None, small)
        await pilot.press("m")
        run.append_metrics({"step": 610, "correlation": 44.4})
        assert "correlation 44.4" in await refresh(app, pilot)

    drive(watch(run), act)


def test_a_pane_fills_the_screen_with_all_it_has(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.write_resolved({"values": {"train.lr": {"value": 0.5, "origin": "override"}}})

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "4")
        app.screen.query_one(RecipeView).query_one(DataTable).focus()
        await press(app, pilot, "m")
        assert app.screen.query_one(RecipeView).size.width > 110
        assert "train.lr" in await press(app, pilot, "3")  # nothing opens behind it
        await press(app, pilot, "escape")
        assert "evaluation: none yet" in await press(app, pilot, "3")
        await press(app, pilot, "2")
        app.screen.query_one("#slider-training").focus()
        text = await press(app, pilot, "m")
        assert "teacher · 4 steps" in text
        assert "effective components" not in text

    drive(watch(run), act)


def test_c_changes_the_number_of_columns(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for number in (3, 4, 1, 2):
            await press(app, pilot, "c")
            rows = [plot.region.y for plot in plots(app)]
            assert max(map(rows.count, rows)) == (number if number < 4 else 3)  # the first is two wide
            assert f"{number} column" in told(app)
            assert all(plot.region.width * number > 110 for plot in plots(app)[1:])

    drive(watch(make_run(tmp_path, previews=()), settings=Settings(side="")), act, (120, 50))


def test_columns_in_a_small_terminal_change_nothing(tmp_path: Path) -> None:
    settings = Settings()

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for size in ((99, 24), (120, 11), (1, 1)):
            await pilot.resize_terminal(*size)
            await settle(app, pilot)
            before = [plot.region for plot in plots(app)]
            for number in (3, 4, 1, 2):
                await press(app, pilot, "c")
                assert settings.columns == number
                assert [plot.region for plot in plots(app)] == before
            assert "one in this" in told(app)

    drive(watch(make_run(tmp_path, previews=()), settings=settings), act, (99, 24))


def test_all_keys_and_the_mouse_in_a_tiny_terminal(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for height, width in ((5, 20), (1, 1)):
            await pilot.resize_terminal(width, height)
            await pilot.press("plus", "left", "y", "x", "c", "tab", "m", "left", "escape", "0", "slash")
            for event in (MouseDown, MouseMove, MouseUp, MouseScrollUp, MouseScrollRight):
                at = (0, min(2, height - 1))
                await pilot._post_mouse_events([event], app.screen, offset=at, button=1)
            await settle(app, pilot)
            assert isinstance(app.screen, RunScreen)

    drive(watch(make_run(tmp_path)), act, (20, 5))


# -- colours -----------------------------------------------------------------------------------


def contrast(one: Color, other: Color) -> float:
    """As the accessibility guidelines count it: 1 (none) to 21."""

    def light(colour: Color) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_curves_and_names_stand_out_on_any_theme(tmp_path: Path) -> None:
    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for theme in ("textual-light", "solarized-light", "catppuccin-latte", "nord", "textual-dark"):
            app.theme = theme
            await settle(app, pilot)
            for plot in plots(app):
                ground = plot.background_colors[1]
                segments = [segment for y in range(5) for segment in plot.render_line(y)]
                names = {s.style.color for s in segments if s.style.bold and s.text.strip()}
                curves = {s.style.color for s in segments if braille(s.text)}
                assert all(contrast(Color.from_rich_color(ink), ground) >= 3 for ink in names), (
                    theme,
                    plot.id,
                )
                assert any(contrast(Color.from_rich_color(ink), ground) >= 3 for ink in curves), theme

    drive(watch(make_run(tmp_path, previews=()), plain=False, settings=Settings(side="")), act)


def test_without_colours_curves_differ_by_their_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    levels = {"marginal": 1.0, "correlation": 2.0, "marginal_plus_correlation": 3.0}
    run = run_of(tmp_path, [{"step": n, **levels} for n in range(1, 200)])

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "m")
        lines = [strip.text for strip in plot(app, "mixture").draw()]
        names = ("marginal 1", "sum 3", "correlation 2")
        assert all(f"{dash_sample(index, 2)} {name}" in lines[0] for index, name in enumerate(names))
        # From the top: 3, 2 and 1, each with as many full cells as its pattern has.
        full = [sum(char in "⠒⠉⠤⣀" for char in line) for line in lines[1:] if len(braille(line)) > 30]
        top, middle, bottom = full
        assert bottom > top > middle == 0

    drive(watch(run, plain=False, settings=Settings(side="")), act)


def test_patterns_tell_eight_curves_apart() -> None:
    samples = [dash_sample(number, 8) for number in range(8)]
    assert len(set(samples)) == 8
    assert set(samples[0]) == {"⠒"}
    assert all(" " in sample or "⠂" in sample or "⠐" in sample for sample in samples[1:])
