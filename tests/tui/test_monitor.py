"""The application on canned runs, driven by its keys."""

import json
import shutil
from pathlib import Path

import pytest
from canned_run import blob, make_run, training_row, write_previews, write_texts
from dialogs import until
from driving import drive, press, refresh, watch
from textual.pilot import Pilot

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import figure
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.screens.help import HelpScreen
from di4c_cli.tui.screens.run import RunScreen
from di4c_cli.tui.screens.runs import RunsScreen
from di4c_cli.tui.widgets.loss_plot import LossPlot
from di4c_cli.tui.widgets.sample_view import SampleView

# -- what it shows -----------------------------------------------------------------------------


def test_shows_the_figures_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    last = training_row(600, 1000, "student")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        shown = ["running", "digits/student-1", "step 600/1,000", "60%", "ETA 0:48", "elapsed 1:12", "412 MB"]
        shown += [f"{figure(last['samples_per_s'])} samples/s", f"loss {figure(last['loss'])}"]
        shown += [
            f"{kind} {figure(last[f'loss/{kind}'])}" for kind in ("distillation", "consistency", "datapoint")
        ]
        shown += [f"sum {figure(last['marginal_plus_correlation'])}", figure(last["lr"]), "step 600"]
        shown += [figure(last["effective_components"]), "previews at step 600", "2 of 2"]
        shown += [f"{role} · {k}" for role in ("teacher", "student") for k in (1, 2, 4)]
        assert [piece for piece in shown if piece not in text] == []

    drive(watch(run), act)


def test_a_teacher_shows_only_what_it_has(tmp_path: Path) -> None:
    run = make_run(tmp_path, role="teacher", state="finished", step=1000, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert "finished" in text
        assert "100%" in text
        assert "previews: none yet" in text
        shown = [plot.id for plot in app.screen.query(LossPlot) if plot.display]
        assert shown == ["plot-loss", "plot-lr", "plot-speed"]

    drive(watch(run), act)


def test_new_rows_pictures_and_states_arrive(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=(300,))

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        run.append_metrics({"step": 700, "loss": 0.1234, "loss/new_term": 7.5})
        write_previews(run, 700, [blob(1)])
        status = run.status()
        status.state, status.step = "interrupted", 700
        run.write_status(status)
        text = await refresh(app, pilot)
        for piece in ("loss 0.123", "new_term 7.5", "previews at step 700", "interrupted", "step 700/1,000"):
            assert piece in text

    drive(watch(run), act)


def test_nan_and_missing_keys_are_drawn_as_gaps(tmp_path: Path) -> None:
    run = make_run(tmp_path, rows=30, previews=())
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 610, "loss": NaN, "lr": Infinity}\n{"step": 620}\n{"step": 630, "loss": null}\n')

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert "loss nan" in text
        assert "distillation" in text
        await press(app, pilot, "y", "S", "S", "S")

    drive(watch(run), act)


def test_only_nan_and_a_single_row_draw_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, rows=0, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "running" in screen_text(app)
        with open(run.metrics_path, "w") as file:
            file.write('{"step": 1, "loss": NaN}\n')
        assert "nan" in await refresh(app, pilot)
        run.append_metrics({"step": 2, "loss": 0.5, "lr": 0.0})
        assert "0.5" in await refresh(app, pilot)
        await press(app, pilot, "y")

    drive(watch(run), act)


def test_a_truncated_file_is_read_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        run.truncate_metrics(300)
        text = await refresh(app, pilot)
        assert f"loss {figure(training_row(300, 1000, 'student')['loss'])}" in text
        assert app.screen.history.last_step == 300
        run.metrics_path.write_text("")
        await refresh(app, pilot)
        run.append_metrics({"step": 3, "loss": 9.25})
        assert "9.25" in await refresh(app, pilot)

    drive(watch(run), act)


def test_text_previews_stand_side_by_side(tmp_path: Path) -> None:
    run = make_run(tmp_path, recipe="words", previews=())
    write_texts(run, 500, ["house", "a line that is much too long for one half of the pane", "日本語"])

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert any("- esuoh" in line and "- house" in line for line in text.splitlines())

    drive(watch(run), act)


# -- coming and going --------------------------------------------------------------------------


def test_started_before_its_run(tmp_path: Path) -> None:
    app = MonitorApp(tmp_path / "runs")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "no runs below" in screen_text(app)
        make_run(tmp_path / "runs")
        await refresh(app, pilot)
        assert isinstance(app.screen, RunScreen)
        assert "digits/student-1" in await settle(app, pilot)

    drive(app, act)


def test_a_named_run_appears_and_is_deleted(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "digits" / "student-1")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "waiting" in screen_text(app)
        make_run(tmp_path)
        assert "step 600/1,000" in await refresh(app, pilot)
        shutil.rmtree(tmp_path / "digits")
        text = await refresh(app, pilot)
        assert "deleted" in text
        assert "distillation" in text
        assert "no runs below" in await press(app, pilot, "escape")

    drive(watch(run), act)


def test_the_list_opens_runs_and_gets_them_back(tmp_path: Path) -> None:
    make_run(tmp_path, role="teacher", state="finished", step=1000)
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        for key in ("escape", "enter", "backspace"):
            await press(app, pilot, key)
        text = screen_text(app)
        assert isinstance(app.screen, RunsScreen)
        assert all(piece in text for piece in ("2 runs below", "finished", "running", "600/1,000", "60%"))
        assert text.index("student-1") < text.index("teacher-1")
        await press(app, pilot, "down", "enter")
        assert "digits/teacher-1" in screen_text(app)

    drive(watch(run), act)


def test_the_cursor_stays_on_its_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, role="teacher")

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "escape")
        make_run(tmp_path)  # newer: stands above now
        lines = (await refresh(app, pilot)).splitlines()
        assert "student-1" in lines[2]
        assert "teacher-1" in lines[3]
        assert "digits/teacher-1" in await press(app, pilot, "enter")

    drive(watch(run), act)


# -- keys --------------------------------------------------------------------------------------


def test_smoothing_and_log_keys(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        screen = app.screen
        before = screen.smoothing
        await press(app, pilot, "s")
        assert screen.smoothing > before
        await press(app, pilot, *["S"] * 12)
        assert screen.history.weight == 0.0
        text = await press(app, pilot, "y")
        assert "log y" in text
        assert "≤ 0 hidden" in text  # the correlation is negative
        assert all(plot.log_y for plot in screen.query(LossPlot))
        await press(app, pilot, "tab", "y")  # in focus: this one alone
        assert sum(not plot.log_y for plot in screen.query(LossPlot)) == 1

    drive(watch(run), act)


def test_preview_keys_walk_through_the_training_steps(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=(100, 300, 600))

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert "previews at step 300" in await press(app, pilot, "[")
        assert "previews at step 100" in await press(app, pilot, "[", "[")
        write_previews(run, 700, [blob(0)])
        assert "1 of 4" in await refresh(app, pilot)
        for _ in range(3):
            await press(app, pilot, "]")
        assert "previews at step 700" in screen_text(app)
        write_previews(run, 800, [blob(0)])  # at the end it follows the run
        assert "previews at step 800" in await refresh(app, pilot)

    drive(watch(run), act)


def test_pause_keeps_reading(tmp_path: Path) -> None:
    run = make_run(tmp_path, previews=())

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "p")
        run.append_metrics({"step": 700, "loss/distillation": 123.0})
        text = await refresh(app, pilot)
        assert "paused" in text
        assert "distillation 123" not in text
        await pilot.resize_terminal(100, 30)
        text = await press(app, pilot, "p")
        assert "paused" not in text
        assert "123" in text

    drive(watch(run), act)


def test_focus_help_palette_and_quit(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        assert app.focused is None
        for key in ("tab", "right", "down", "left", "up", "shift+tab"):
            await pilot.press(key)
        text = await press(app, pilot, "question_mark")
        assert isinstance(app.screen, HelpScreen)
        for piece in ("Quit", "Log y", "Earlier preview", "Pause", "Next pane", "[", "S  Less smooth"):
            assert piece in text
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RunScreen)
        await press(app, pilot, "ctrl+p")
        await press(app, pilot, "escape")
        await press(app, pilot, "q")
        assert app.return_code == 0

    drive(watch(run), act)


def test_at_rest_nothing_is_repainted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    painted = []

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        monkeypatch.setattr(app, "_display", lambda *_: painted.append(1))
        await pilot.pause(1.5)  # some polls of the run, and one of the list below it, were it to poll
        assert painted == []
        run.append_metrics({"step": 700, "loss": 1.0})
        await until(pilot, lambda: painted)
        await pilot.pause(0.6)
        assert len(painted) <= 4

    drive(watch(run), act)


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (200, 3), (99, 29)])
def test_any_size_draws(tmp_path: Path, size: tuple[int, int]) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "y", "tab", "h", "escape", "escape")
        lines = screen_text(app).splitlines()
        assert len(lines) <= size[1]
        assert all(len(line) <= size[0] for line in lines)
        for digit in "123456":
            await press(app, pilot, digit)
        await press(app, pilot, "escape", "escape")

    drive(watch(run), act, size)


def test_a_tiny_terminal_still_tells_what_matters(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        assert "student-1" in text
        assert "60%" in text
        assert any("⠀" <= char <= "⣿" for char in text)

    drive(watch(run), act, (20, 5))


def test_resizing_keeps_everything(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        before = screen_text(app)
        for size in ((30, 8), (10, 3), (90, 24), (300, 90), (120, 40)):
            await pilot.resize_terminal(*size)
        assert await settle(app, pilot) == before

    drive(watch(run), act)


def test_pictures_have_colours_unless_plain(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        view = app.screen.query_one(SampleView)
        colours = {
            segment.style.color for y in range(6) for segment in view.render_line(y) if "▀" in segment.text
        }
        assert len(colours) >= 3
        assert "<svg" in app.export_screenshot()

    drive(watch(run, plain=False), act)


# -- read-only ---------------------------------------------------------------------------------


@pytest.mark.slow  # on a real terminal it is in test_watching
def test_nothing_is_written_into_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    def state() -> str:
        files = sorted(path for path in tmp_path.rglob("*"))
        return json.dumps([(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files])

    before = state()

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(
            app, pilot, "s", "y", "[", "]", "p", "p", "h", "escape", "escape", "enter", *"123456", "o"
        )

    drive(watch(run), act)
    assert state() == before
