"""From rows to dots and from pictures to cells: the parts without a screen."""

import math
import random
from array import array
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from canned_run import blob, write_grid
from PIL import Image

from di4c_cli.tui.axis import Range, duration, figure, fit, linear_labels, linear_ticks, log_ticks, time_ticks
from di4c_cli.tui.braille import Canvas
from di4c_cli.tui.pictures import Preview, arrange, cut, half_blocks, read_previews
from di4c_cli.tui.rows import ABSENT, batches
from di4c_cli.tui.series import Column, Curve, History, bucket
from di4c_cli.tui.view import View
from di4c_cli.tui.widgets.loss_plot import Trace
from di4c_cli.tui.widgets.plot import label_line, legend_lines

NAN = math.nan


def curve(values: list[float], weight: float = 0.0) -> Curve:
    result = Curve(weight)
    for value in values:  # one by one, as from a run that is watched
        result.extend([value])
    return result


def history(*rows: dict[str, Any], weight: float = 0.0) -> History:
    result = History(weight)
    result.extend_all(batches(rows))
    return result


def column(values: list[float]) -> Column:
    result = Column()
    result.extend(values)
    return result


def trace(values: list[float], weight: float = 0.0) -> Trace:
    return Trace("loss", array("d", range(len(values))), curve(values, weight), 0)


def fitted(*traces: Trace, log: bool) -> Range | None:
    return fit((trace.samples((0, 1e9), log) for trace in traces), log)


# -- series ------------------------------------------------------------------------------------


def test_the_average_starts_unbiased_and_keeps_a_constant() -> None:
    assert curve([3.0] * 20, weight=0.99).smooth.values.tolist() == pytest.approx([3.0] * 20)
    values, weight = [1.0, 4.0, 2.0], 0.9
    weights = [weight**2, weight, 1.0]
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert curve(values, weight).smooth.last() == pytest.approx(expected)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.99, 0.999])
def test_the_average_is_that_of_the_formula_in_whatever_pieces_it_comes(weight: float) -> None:
    """Long stretches go another, faster way than single values and the beginning."""
    noise = random.Random(0)
    values = [noise.gauss(5, 2) for _ in range(9_000)]
    values[6_000], values[7_000] = NAN, ABSENT
    total = mass = 0.0
    expected = []
    for value in values:
        if math.isfinite(value):
            total, mass = weight * total + (1 - weight) * value, weight * mass + (1 - weight)
        expected.append(total / mass if math.isfinite(value) else value)
    for pieces in (1, 7, 4096, 9_000):
        result = Curve(weight)
        for start in range(0, len(values), pieces):
            result.extend(values[start : start + pieces])
        assert result.smooth.values.tolist() == pytest.approx(expected, rel=1e-5, nan_ok=True)
    result.smoothen(0.3)
    result.smoothen(weight)
    assert result.smooth.values.tolist() == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_nan_is_a_gap_and_leaves_the_average_alone() -> None:
    with_gap = history(*({"step": n, "loss": v} for n, v in enumerate([1.0, NAN, math.inf, 3.0])), weight=0.5)
    smooth = with_gap.curves["loss"].smooth.values
    assert [math.isnan(value) for value in smooth] == [False, True, True, False]
    assert smooth[-1] == pytest.approx(curve([1.0, 3.0], weight=0.5).smooth.last())


def test_a_step_back_starts_a_newer_branch() -> None:
    run = history(*({"step": step, "loss": float(step), "lr": 1.0} for step in range(1, 7)), weight=0.5)
    run.extend_all(batches([{"step": 4, "loss": 40.0}, {"step": 5, "loss": 50.0}]))
    assert run.steps.tolist() == [1, 2, 3, 4, 5]
    assert run.curves["loss"].raw.values.tolist() == [1.0, 2.0, 3.0, 40.0, 50.0]
    assert run.curves["lr"].raw.values.tolist() == [1.0, 1.0, 1.0, ABSENT, ABSENT]
    fresh = curve([1.0, 2.0, 3.0, 40.0, 50.0], weight=0.5)
    assert run.curves["loss"].smooth.values.tolist() == pytest.approx(fresh.smooth.values.tolist())


def test_steps_back_within_a_batch_and_rows_on_the_same_step() -> None:
    run = history(
        {"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 1, "loss": 7.0}, {"step": 1, "fd": 3.0}
    )
    assert run.steps.tolist() == [1]
    assert (run.curves["loss"].raw.last(), run.curves["fd"].raw.last()) == (7.0, 3.0)
    run.extend_all(batches([{"step": 1, "kid": 4.0}, {"step": 2, "loss": 5.0}]))
    assert run.curves["loss"].raw.values.tolist() == [7.0, 5.0]
    assert run.curves["kid"].raw.values.tolist() == [4.0, ABSENT]


def test_rows_may_lack_anything() -> None:
    rows = [{}, {"loss": 1.0}, {"step": NAN, "loss": 1.0}, {"step": "3"}, {"step": 10**400, "loss": 1.0}]
    run = history(*rows, {"step": 1, "loss": None, "note": "text", "flag": True, "lr": 10**400, "big": 1e300})
    assert list(run.curves) == ["loss", "big"]
    assert all(math.isnan(curve.raw.last()) for curve in run.curves.values())


def test_training_time_never_falls_and_may_be_missing() -> None:
    times = [1.0, None, "soon", 0.5, 3.0]
    run = history(*({"step": n, "loss": 0.0, "elapsed": at} for n, at in enumerate(times)))
    assert run.elapsed.tolist() == [1.0, 1.0, 1.0, 1.0, 3.0]


def test_buckets_keep_minimum_and_maximum() -> None:
    values = [float(i % 7) for i in range(1000)]
    values[503] = 99.0
    steps = [float(i) for i in range(1000)]
    buckets = bucket(steps, column(values), 0, 999, 40)
    assert len(buckets) == 40
    assert max(item.high for item in buckets if item) == 99.0
    assert min(item.low for item in buckets if item) == 0.0


@pytest.mark.parametrize("columns", [2, 7, 120])
def test_buckets_of_a_long_curve_are_those_of_all_its_values(columns: int) -> None:
    noise = random.Random(1)
    values = [noise.choice((noise.random(), NAN, ABSENT, ABSENT)) for _ in range(10_000)]
    values[2000:5000] = [ABSENT] * 1500 + [NAN] * 1500
    width = 9999 / (columns - 1)
    for number, item in enumerate(bucket(range(10_000), column(values), 0, 9999, columns)):
        inside = [v for i, v in enumerate(values) if (number - 0.5) * width <= i < (number + 0.5) * width]
        finite = [value for value in inside if math.isfinite(value)]
        assert (item is None) == (not finite)
        if item is not None:
            told = (item.low, item.high, item.first, item.last)
            assert told == pytest.approx((min(finite), max(finite), finite[0], finite[-1]))


def test_buckets_know_gaps_from_mere_distance() -> None:
    steps = [0.0, 10.0, 20.0, 30.0]
    for between in (3.0, ABSENT):
        far = bucket(steps, column([1.0, 2.0, between, 4.0]), 0, 30, 31)
        assert not any(item.gap_before for item in far if item)
    broken = bucket(steps, column([1.0, 2.0, NAN, 4.0]), 0, 30, 31)
    assert [item.gap_before for item in broken if item] == [False, False, True]


@pytest.mark.parametrize("step", [0.0, 5.0, 1e7])
def test_a_single_point_is_drawn(step: float) -> None:
    buckets = bucket([step], column([2.0]), step, step, 10)
    assert [item.last for item in buckets if item] == [2.0]


# -- the view ----------------------------------------------------------------------------------

WHOLE = (0.0, 100.0)


def test_zoom_keeps_what_it_is_about_and_ends_at_the_whole() -> None:
    near = View().zoom(2, 40, WHOLE)
    assert near.span(WHOLE) == (20, 70)
    assert near.zoom(0.5, 40, WHOLE) == View()
    assert near.zoom(0.01, None, WHOLE) == View()
    follows = View().zoom(4, None, WHOLE)
    assert (follows.span(WHOLE), follows.span((0, 120))) == ((75, 100), (75, 120))
    deep = View()
    for _ in range(200):
        deep = deep.zoom(2, 33, WHOLE)
    start, stop = deep.span(WHOLE)
    assert 0 < stop - start < 1
    assert start <= 33 <= stop


def test_pan_stays_within_the_curves() -> None:
    near = View().zoom(4, 50, WHOLE)
    assert near.pan(0.2, WHOLE).span(WHOLE) == pytest.approx((42.5, 67.5))
    assert near.pan(-50, WHOLE).span(WHOLE) == (0, 25)
    at_end = near.pan(50, WHOLE)
    assert (at_end.span(WHOLE), at_end.stop) == ((75, 100), None)
    assert View().pan(1, WHOLE) == View()


def test_the_cursor_appears_at_the_newest_and_stays_in_the_window() -> None:
    view = View().point(-0.02, WHOLE)
    assert view.cursor == 100
    assert view.point(-0.02, WHOLE).cursor == 98
    assert view.point(5, WHOLE).cursor == 100
    assert View().point(1, (0.0, 0.0)).cursor == 0


def test_values_at_the_cursor_are_those_of_the_row_before() -> None:
    line = trace([5.0, 6.0, ABSENT, 8.0])
    assert [line.value(at) for at in (0.0, 0.9, 1.0, 2.5, 3.0, None)] == [5, 5, 6, 6, 8, 8]


# -- canvas and axes ---------------------------------------------------------------------------


def row(value: float) -> int:
    return int(value)


def column_is_empty(canvas: Canvas, x: int) -> bool:
    return all(canvas.cell(x, y)[1] is None for y in range(canvas.height))


def test_lines_have_no_holes_but_gaps() -> None:
    whole, broken = Canvas(20, 4), Canvas(20, 4)
    steps = [0.0, 13.0, 26.0, 39.0]
    whole.curve(bucket(steps, column([0.0, 15.0, 3.0, 9.0]), 0, 39, whole.columns), row, 0)
    assert not any(column_is_empty(whole, x) for x in range(20))
    broken.curve(bucket(steps, column([0.0, 15.0, NAN, 9.0]), 0, 39, broken.columns), row, 0)
    assert column_is_empty(broken, 13)
    assert not column_is_empty(broken, 19)


def test_dots_are_where_they_should_be() -> None:
    canvas = Canvas(1, 1)
    canvas.dot(0, 0, 3)
    canvas.dot(1, 3, 3)
    canvas.dot(5, 5, 3)  # outside
    assert canvas.cell(0, 0) == ("⢁", 3)


def test_log_axis_leaves_out_what_is_not_positive() -> None:
    assert fitted(trace([-1.0, 0.0, NAN]), log=True) is None
    values = fitted(trace([-5.0, 0.0, 0.01, 100.0]), log=True)
    assert (values.low, values.high, values.log) == (pytest.approx(0.01), 100.0, True)
    assert values.share(1.0) == pytest.approx(0.5)
    assert fit([], log=False) is None
    assert fitted(trace([NAN]), log=False) is None


def test_a_constant_lies_in_the_middle_and_outliers_do_not_count() -> None:
    for constant in (0.0, 3.0, -2.0, 1e-12):
        assert fitted(trace([constant] * 3), log=False).share(constant) == pytest.approx(0.5)
    values = [1.0 + (i % 10) / 10 for i in range(500)]
    values[0] = 1e6
    assert fitted(trace(values), log=False).high == 1e6  # the smoothed curve is shown whole
    smoothed = trace(values[1:], weight=0.9)
    assert smoothed.curve.smooth.last() < 3
    smoothed.curve.raw.values[200] = 1e6
    assert fitted(smoothed, log=False).high < 3


@pytest.mark.parametrize("values", [[-1e308, 1e308], [0.0, 5e-324], [1e299, -1e299], [1e-299, 1e299]])
@pytest.mark.parametrize("log", [False, True])
def test_extreme_values_have_ticks(values: list[float], log: bool) -> None:
    shown = fitted(trace(values), log=log)
    assert shown is None or shown.ticks(4) is not None


def test_ticks_are_round_even_and_inside() -> None:
    assert linear_ticks(-5.4, 10.7, 4) == pytest.approx([-5, 0, 5, 10])
    assert linear_labels(linear_ticks(0, 1e-3, 4)) == ["0", "0.0005", "0.0010"]
    assert linear_labels(linear_ticks(0, 9e-4, 5)) == ["0", "2e-4", "4e-4", "6e-4", "8e-4"]
    assert linear_labels([100_000, 100_500]) == ["100.0k", "100.5k"]
    assert log_ticks(0.05, 200, 5) == pytest.approx([0.1, 1, 10, 100])
    assert log_ticks(1.0, 1.001, 4) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4123, "0.412"), (0, "0"), (-8.756, "-8.76"), (1354.4, "1354"), (9999.7, "10k"), (12345, "12.3k"),
        (999_999, "1M"), (3.21e-5, "3.2e-5"), (1e-4, "1e-4"), (2e15, "2e15"), (NAN, "nan"),
    ],
)  # fmt: skip
def test_figures_are_short(value: float, text: str) -> None:
    assert figure(value) == text
    assert len(text) <= 7


def test_durations() -> None:
    shown = [duration(seconds) for seconds in (None, NAN, -3, 42, 725, 11_220, 200_000)]
    assert shown == ["–", "–", "0:00", "0:42", "12:05", "3:07:00", "2d 7h"]


def test_times_have_round_ticks() -> None:
    assert time_ticks(0, 100, 4) == [(0, "0:00"), (30, "0:30"), (60, "1:00"), (90, "1:30")]
    assert [label for _, label in time_ticks(0, 3 * 86400, 3)] == ["0:00", "1d 0h", "2d 0h", "3d 0h"]
    assert time_ticks(5, 5, 3) == [(5, "0:05")]


def test_labels_stand_apart_and_the_last_one_stays() -> None:
    assert label_line([(0.0, "0"), (0.5, "50"), (1.0, "step 100")], 20) == "0        50 step 100"
    assert label_line([(0.0, "0"), (0.9, "90"), (1.0, "step 100")], 20) == "0           step 100"
    assert label_line([(1.0, "step 100")], 5) == " " * 5


def test_legends_shorten_names_before_they_lose_values() -> None:
    entries = [("distillation", "1.06"), ("consistency", "2.29"), ("datapoint", "-5.43")]
    assert legend_lines(entries, 60, 1) == [[(i, *entry) for i, entry in enumerate(entries)]]
    short = legend_lines(entries, 36, 1)
    assert [value for line in short for _, _, value in line] == ["1.06", "2.29", "-5.43"]
    assert sum(len(name) + len(value) + 3 for _, name, value in short[0]) - 2 <= 36


# -- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [1, 5, 12])
def test_tiles_come_back_as_they_were_put_in(tmp_path: Path, num: int) -> None:
    tiles = [blob(seed) for seed in range(num)]
    write_grid(tmp_path / "student-4.png", tiles, columns=4, scale=3, padding=6)
    (preview,) = read_previews(tmp_path)
    assert (preview.role, preview.steps, preview.whole) == ("student", 4, False)
    assert [tile.convert("L").tobytes() for tile in preview.tiles] == [bytes(chain(*tile)) for tile in tiles]


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"tile": [8, 8], "scale": 0, "padding": 2, "columns": 4, "num": 4},
        {"tile": [9, 8], "scale": 4, "padding": 2, "columns": 4, "num": 4},
        {"tile": 8, "scale": 4, "padding": 2, "columns": 4, "num": 4},
        {"tile": [8, 8], "scale": 4, "padding": 2, "columns": 0, "num": 0},
    ],
)
def test_a_layout_that_does_not_fit_leaves_the_picture_whole(tmp_path: Path, layout: dict) -> None:
    write_grid(tmp_path / "teacher-1.png", [blob(0)] * 4, columns=4)
    assert cut(Image.open(tmp_path / "teacher-1.png"), layout) == ()
    (tmp_path / "grid.json").unlink()
    (preview,) = read_previews(tmp_path)
    assert preview.whole
    assert arrange(preview, 20, 20, (0, 0, 0)).width <= 20


def test_fewer_tiles_rather_than_smaller_ones() -> None:
    tiles = tuple(Image.new("RGB", (8, 8), (seed, 0, 0)) for seed in range(36))
    assert arrange(Preview("student", 1, tiles), 26, 20, (9, 9, 9)).size == (26, 17)  # 3 x 2 of 36
    assert arrange(Preview("student", 1, tiles), 8, 8, (9, 9, 9)).size == (8, 8)
    large = arrange(Preview("student", 1, tiles), 60, 60, (9, 9, 9))  # twice as large, still 9 of them
    assert large.size == (50, 50)
    assert large.getpixel((0, 0)) == large.getpixel((1, 1)) == (0, 0, 0)
    assert large.getpixel((16, 0)) == (9, 9, 9)
    alone = Preview("student", 1, (Image.new("RGB", (256, 256)),))
    assert arrange(alone, 26, 20, (9, 9, 9)).size == (20, 20)
    assert arrange(alone, 0, 0, (9, 9, 9)).size == (1, 1)


def test_half_blocks_fill_an_odd_last_row() -> None:
    image = Image.new("RGB", (2, 3), (1, 2, 3))
    assert list(half_blocks(image, (7, 7, 7))) == [[((1, 2, 3),) * 2] * 2, [((1, 2, 3), (7, 7, 7))] * 2]
