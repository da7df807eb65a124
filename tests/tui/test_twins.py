"""Everything the monitor shows can be had by a command, and the figures agree."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from canned_run import make_run
from driving import drive, press, watch
from program import Program
from textual.pilot import Pilot
from textual.widgets import DataTable

from di4c_cli.runs import RunDirectory, age
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.axis import duration, figure
from di4c_cli.tui.frame import screen_text, settle
from di4c_cli.tui.widgets.runs_table import RunsTable

QUICK = [
    *("network.width=16", "teacher.train.steps=20", "teacher.train.batch_size=16", "preview.num=4"),
    *(
        "student.num_latents=2",
        "train.steps=20",
        "train.batch_size=8",
        "train.log_every=5",
        "preview.every=10",
    ),
    *("eval.num=40", "eval.steps=[1,2]", "eval.seeds=[0,1]", "metrics.5.num=20", "metrics.5.num_latents=4"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, share_classifiers: Callable[[Path], None]) -> Program:
    """A real teacher and two real students of it, with their evaluations."""
    program = Program(tmp_path_factory.mktemp("twins"))
    share_classifiers(program.runs)
    program.ok("train-teacher", "digits", *QUICK, "--quiet")
    program.ok("distill", "digits", *QUICK, "--quiet")
    program.ok("distill", "digits", *QUICK, "train.seed=5", "--quiet")
    return program


def student(program: Program, number: int = 1) -> RunDirectory:
    return RunDirectory(program.runs / "digits" / f"student-{number}")


def cells(table: DataTable[Any]) -> list[list[str]]:
    return [[cell.plain.strip() for cell in table.get_row_at(row)] for row in range(table.row_count)]


def test_the_list_agrees_with_runs(program: Program) -> None:
    told = {Path(run["run"]).name: run for run in program.ok("runs", "--json").json}

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "escape")
        rows = app.screen.query_one(RunsTable).rows
        shown = {Path(path).name: [text for text, _ in row] for path, row in rows.items()}
        assert shown.keys() == told.keys()
        for name, (_, _, state, step, done, loss, speed, recipe, role, ago) in shown.items():
            run = told[name]
            assert (state, recipe, role) == (f"● {run['state']}", run["recipe"], run["role"])
            assert step == f"{run['step']:,}/{run['steps']:,}"
            assert done == f"{100 * run['step'] / run['steps']:.0f}%"
            assert ago == ("now" if time.time() - run["updated"] < 60 else age(run["updated"]))
            assert (loss, speed) == (figure(run["loss"]), f"{figure(run['samples_per_s'])}/s")

    drive(watch(student(program)), act)


def test_status_line_and_charts_agree_with_runs_show(program: Program) -> None:
    facts = program.ok("runs", "show", "digits/student-1", "--json").json
    last = facts["last"]

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        text = screen_text(app)
        shown = [f"● {facts['state']}", f"step {facts['step']:,}/{facts['steps']:,}"]
        shown += [f"elapsed {duration(facts['status']['elapsed'])}", f"loss {figure(last['loss'])}"]
        shown += [f"{figure(last['samples_per_s'])} samples/s", f"{figure(last['memory_mb'])} MB"]
        shown += [f"{name.split('/')[1]} {figure(value)}" for name, value in last.items() if "/" in name]
        shown += [figure(last[name]) for name in ("effective_components", "lr", "correlation", "marginal")]
        assert [piece for piece in shown if piece not in text] == []

    drive(watch(student(program)), act, (160, 60))


def test_the_recipe_pane_agrees_with_recipes_show(program: Program) -> None:
    told = program.ok("recipes", "show", "digits", *QUICK, "--json").json["values"]

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "4")
        shown = {
            key: (value, origin) for key, value, origin in cells(app.screen.query_one("#recipe DataTable"))
        }
        expected = {key: (json.dumps(v["value"], ensure_ascii=False), v["origin"]) for key, v in told.items()}
        assert shown == expected

    drive(watch(student(program)), act)


def test_the_evaluation_pane_agrees_with_eval(program: Program) -> None:
    told = program.ok("eval", "digits/student-1", "--seeds", "0", "--quiet", "--json").json

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        await press(app, pilot, "3")
        table = app.screen.query_one("#evaluation DataTable")
        heads = [column.label.plain.strip() for column in table.columns.values()]
        metric, checked = "", 0
        for name, steps, *figures in cells(table):
            metric = name.split()[0] if name else metric
            for head, shown in zip(heads[2:], figures, strict=True):
                model = head.split()[-1]
                rows = [r for r in told["rows"] if (r["model"], str(r["steps"])) == (model, steps)]
                if rows and metric in rows[0]["metrics"]:
                    mean, error = (rows[0]["metrics"].get(metric + end) for end in ("", "_se"))
                    assert shown == figure(mean) + (f" ±{figure(float(f'{error:.2g}'))}" if error else "")
                    checked += 1 if error is None else 2
                elif head == "real data" and name:
                    assert shown == (figure(told["reference"][metric]) if metric in told["reference"] else "")
        assert checked == sum(len(row["metrics"]) for row in told["rows"])

    drive(watch(student(program)), act, (160, 60))


def test_differences_agree_with_runs_diff(program: Program) -> None:
    told = program.ok("runs", "diff", "digits/student-1", "digits/student-2", "--json").json["differences"]
    assert "train.seed" in told

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        shown = {
            key: [json.loads(a), json.loads(b)]
            for key, a, b in cells(app.screen.query_one("#differences DataTable"))
        }
        assert shown == told
        assert await settle(app, pilot)

    drive(watch(student(program), student(program, 2)), act)


def test_export_has_the_rows_of_the_curves(program: Program) -> None:
    table = program.ok("runs", "export", "digits/student-1", "--csv", "-").out.splitlines()

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        column = table[0].split(",").index("loss")
        values = [float(line.split(",")[column]) for line in table[1:]]
        assert app.screen.history.curves["loss"].raw.values.tolist() == pytest.approx(values, rel=1e-6)

    drive(watch(student(program)), act)


def test_a_copied_run_reads_the_same(program: Program, tmp_path: Path) -> None:
    shutil.copytree(program.runs / "digits", tmp_path / "elsewhere" / "digits")
    copy = RunDirectory(tmp_path / "elsewhere" / "digits" / "student-1")
    texts: list[str] = []

    async def act(app: MonitorApp, pilot: Pilot[None]) -> None:
        texts.append(screen_text(app))

    drive(watch(copy), act)
    drive(watch(student(program)), act)
    assert texts[0] == texts[1]


def test_canned_runs_are_like_real_ones(program: Program, tmp_path: Path) -> None:
    """What the other tests are made of has the keys that the trainer writes."""
    canned = next(make_run(tmp_path, rows=1).metrics())
    real = next(student(program).metrics())
    assert {key for key in real if "/" not in key} <= canned.keys()
