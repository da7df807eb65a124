"""`train-teacher`, `distill`, `sample` and `eval`: from the command line to the calls of the pipeline."""

import json
import os
import signal
import subprocess
import sys
import time
from types import ModuleType

import pytest

import di4c_cli
from di4c_cli import recipe_file, shipped
from di4c_cli.cli import several, training
from di4c_cli.errors import Interrupted, NonFiniteLossError, RunError
from di4c_cli.runs import RunDirectory, Status

EVALUATION = {
    "source": "x",
    "reference": {"fd": 0.25},
    "directions": {"fd": "lower", "valid": "higher"},
    "rows": [
        {"model": model, "steps": steps, "nfe": steps, "num": 9, "seed": seed, "seconds_per_sample": 0.1,
         "metrics": {"fd": fd + seed, "valid": 0.5}}
        for model, fd in (("teacher", 4.0), ("student", 2.0)) for steps in (1, 2) for seed in (0, 2)
    ],
    "files": ["o/results.json", "o/frontier.png"],
}  # fmt: skip


class Pipeline(ModuleType):
    """Stands in for `di4c_cli.pipeline` and notes its calls."""

    def __init__(self) -> None:
        super().__init__("di4c_cli.pipeline")
        self.calls: list[tuple[str, dict]] = []
        self.problem: BaseException | None = None

    def train(self, loaded, **options):
        self.calls.append(("train", {"loaded": loaded, **options}))
        if self.problem:
            raise self.problem
        options["progress"](1, 2, {"loss": 0.5, "samples_per_s": 100.0})
        options["narrate"]("a word")
        run = options["resume"] or RunDirectory.create(loaded.name, options["role"], options["name"])
        for step in (1, 2):
            folder = run.path / "samples" / f"step-{step}"
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("grid.png", "student-1.png", "grid.json"):
                (folder / name).touch()
        final = {"loss": float("nan"), "elapsed": 1.0}
        return {
            "run": str(run.path),
            "checkpoint": str(run.final),
            "step": 2,
            "seconds": 61.0,
            "final": final,
        }

    def evaluate(self, source, **options):
        self.calls.append(("evaluate", {"source": source, **options}))
        options["progress"](1, 1, EVALUATION["rows"][0])
        return EVALUATION

    def sample(self, source, **options):
        self.calls.append(("sample", {"source": source, **options}))
        files = [f"out/{i:05d}.png" for i in range(options["num"] or 3)]
        facts = {"model": "student", "steps": 2, "nfe": 2, "num": 3, "seed": 0, "seconds": 0.1}
        return {"source": source, **facts, "files": files}


@pytest.fixture
def pipeline(monkeypatch):
    fake = Pipeline()
    monkeypatch.setitem(sys.modules, "di4c_cli.pipeline", fake)
    monkeypatch.setattr(di4c_cli, "pipeline", fake, raising=False)
    return fake


def make_run(role="student", recipe="toy", overrides=(), name=None, **status) -> RunDirectory:
    loaded = recipe_file.load(shipped.find_recipe(recipe), overrides)
    run = RunDirectory.create(recipe, role, name)
    run.write_recipe(loaded.text)
    run.write_resolved(recipe_file.resolved(loaded, role))
    run.write_status(Status(**{"recipe": recipe, "role": role, "state": "interrupted", "step": 3, **status}))
    return run


def test_distill_passes_everything_on_and_closes_with_the_comparison(run, pipeline):
    result = run("distill", "toy", "train.steps=7", "--teacher", "t", "--device", "cuda:1", "--name", "n")
    assert result.exit_code == 0, result.output
    (_, train), (_, evaluate) = pipeline.calls
    assert train["loaded"].recipe.train.steps == 7
    assert {key: train[key] for key in ("role", "device", "name", "resume", "teacher")} == {
        "role": "student", "device": "cuda:1", "name": "n", "resume": None, "teacher": "t",
    }  # fmt: skip
    assert evaluate["source"].endswith("toy/n")
    assert evaluate["device"] == "cuda:1"
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert ["model", "K", "NFE", "fd", "↓", "valid", "↑"] in lines
    assert ["teacher", "1", "1", "5", "±", "1.4", "0.5"] in lines
    assert ["real", "data", "0.25"] in lines
    assert lines[-1][0].endswith("toy/n/samples/step-2/grid.png")
    assert lines.index(["teacher", "2", "2", "5", "±", "1.4", "0.5"]) > lines.index(
        ["student", "1", "1", "3", "±", "1.4", "0.5"]
    )  # models at equal K stand together
    assert "distill toy: 1/2, loss 0.5, 100 samples/s" in result.stderr
    assert "a word" in result.stderr


def test_distill_in_json_is_one_document(run, pipeline):
    result = run("distill", "toy", "--json", "--quiet")
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert set(found) == {"run", "checkpoint", "step", "seconds", "final", "previews", "evaluation"}
    assert found["final"] == {"loss": None, "elapsed": 1.0}  # strict JSON has no NaN
    assert found["previews"] == [f"{found['run']}/samples/step-2/grid.png"]


def test_distill_without_metrics_has_nothing_to_compare(run, pipeline):
    assert run("distill", "toy", "metrics=[]").exit_code == 0
    assert [name for name, _ in pipeline.calls] == ["train"]


def test_train_teacher(run, pipeline):
    found = json.loads(run("train-teacher", "digits", "--json").stdout)
    ((_, train),) = pipeline.calls
    assert (train["role"], train["teacher"], train["device"]) == ("teacher", None, "auto")
    assert set(found) == {"run", "checkpoint", "step", "seconds", "final"}
    assert "time        1:01" in run("train-teacher", "digits").stdout


def test_resume_alone_takes_the_newest_of_recipe_and_role(run, pipeline):
    make_run(name="old")
    time.sleep(0.01)
    newest = make_run(overrides=["train.steps=5"])
    time.sleep(0.01)
    make_run(role="teacher")
    make_run(recipe="digits")
    for line in (["toy", "--resume"], ["--resume", "toy"], ["--resume=latest", "toy"]):
        assert run("distill", *line).exit_code == 0
        assert pipeline.calls[-2][1]["resume"] == newest
        assert pipeline.calls[-2][1]["loaded"].recipe.train.steps == 5  # its own value, not the file's


def test_resume_of_a_run_needs_no_recipe(run, pipeline):
    old = make_run()
    make_run()
    for name in ("toy/student-1", old.path, "toy/student-1 train.clip=0 --allow-drift"):
        result = run("distill", "--resume", *str(name).split())
        assert result.exit_code == 0, result.output
        train = pipeline.calls[-2][1]
        assert train["resume"].path == old.path
        assert (train["loaded"].name, train["loaded"].text) == ("toy", shipped.find_recipe("toy").read_text())
    assert train["loaded"].recipe.train.clip == 0


def test_resume_tells_what_is_not_as_before(run, pipeline):
    make_run(overrides=["train.steps=5", "train.seed=4"])
    result = run("distill", "toy", "--resume", "train.steps=9")
    assert "toy/student-1: train.steps: was 5, is now 9" in result.stderr
    assert "train.seed" not in result.stderr  # the run's own overrides stay
    assert pipeline.calls[-2][1]["loaded"].recipe.train.seed == 4
    assert "now" not in run("distill", "toy", "--resume", "train.steps=9", "--quiet").stderr


@pytest.mark.parametrize("named", [["toy", "--resume"], ["--resume=toy/student-1"]])
def test_resume_refuses_values_that_change_the_training(run, pipeline, named):
    """Listed key by key, with those that may differ left out."""
    make_run(overrides=["train.steps=5"])
    changed = ["train.clip=0.5", "train.steps=9", "losses.0.weight.scale=3.0", "preview.every=7"]
    line = ["distill", *named, *changed]
    result = run(*line)
    assert (result.exit_code, result.stdout) == (2, "")
    place = RunDirectory.resolve("latest").path
    first, second = result.stderr.splitlines()
    assert first == f"{place}: losses.0.weight.scale: was 1.0, is now 3.0"
    assert second.startswith(f"{place}: train.clip: was 1.0, is now 0.5")
    assert second.endswith("or add --allow-drift)")
    assert pipeline.calls == []
    assert run(*line, "--allow-drift").exit_code == 0
    recipe = pipeline.calls[0][1]["loaded"].recipe
    assert (recipe.train.clip, recipe.train.steps, recipe.losses[0].weight.scale) == (0.5, 9, 3.0)


def test_a_recipe_file_that_has_changed_since_is_drift(run, pipeline, tmp_path):
    mine = tmp_path / "mine.toml"
    text = shipped.find_recipe("toy").read_text()
    mine.write_text(text)
    loaded = recipe_file.load(mine, ["train.steps=5", "train.lr=0.5", 'losses=[{kind="marginal"}]'])
    made = RunDirectory.create("mine", "student")
    made.write_recipe(loaded.text)
    made.write_resolved(recipe_file.resolved(loaded, "student"))
    made.write_status(Status(recipe="mine", role="student", state="interrupted", step=3))
    assert run("distill", mine, "--resume").exit_code == 0
    mine.write_text(text.replace('init = "scratch"', 'init = "teacher"').replace("lr = 3e-3", "lr = 1.0"))
    result = run("distill", mine, "--resume")
    assert result.exit_code == 2
    (complaint,) = result.stderr.splitlines()
    assert 'student.init: was "scratch", is now "teacher" (' in complaint
    assert run("distill", "--resume", "mine/student-1").exit_code == 0  # without RECIPE: as it was
    assert run("distill", mine, "--resume", "--allow-drift").exit_code == 0
    recipe = pipeline.calls[-2][1]["loaded"].recipe  # the file as it is now, without the run's overrides
    assert (recipe.student.init, recipe.train.lr.peak, len(recipe.losses)) == ("teacher", 1.0, 3)


def test_a_default_that_is_new_in_this_program_is_no_drift(run, pipeline):
    made = make_run()
    resolved = made.resolved()
    del resolved["values"]["times.step_share"], resolved["config"]["times"]["step_share"]
    made.write_resolved(resolved)
    assert run("distill", "--resume", "toy/student-1").exit_code == 0


def test_a_resumed_run_keeps_its_teacher(run, pipeline):
    make_run()
    line = ["distill", "toy", "--resume", "--teacher", "other"]
    assert "--teacher and --resume do not go together" in run(*line).stderr
    assert pipeline.calls == []
    assert run(*line, "--allow-drift").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("distill", "which recipe?"),
        ("distill tpy", "Did you mean 'toy'?"),
        ("distill toy --train.steps 5", "write train.steps=5"),
        ("distill toy --train.steps=5", "write train.steps=5"),
        ("distill toy --qiet", "No such option: --qiet (Possible options: --quiet)"),
        ("distill toy train.stepz=5", "Did you mean 'train.steps'?"),
        ("distill toy trailing", "trailing: not an override"),
        ("distill toy --nproc 2 --device cpu:0", "cpu:0"),
        ("distill toy --nproc 0", "'--nproc'"),
        ("distill toy --device gpu", "'gpu' is none of auto"),
        ("distill toy --name x --resume", "do not go together"),
        ("distill toy --resume", "there is no student run of toy yet"),
        ("distill --resume", "there is no student run yet"),
        ("distill --resume nope", "nope: no such run"),
        ("distill toy --monitor --json", "--monitor and --json"),
        ("distill toy --monitor --dry-run", "--monitor and --dry-run"),
        ("distill toy --monitor", "needs a terminal"),
        ("train-teacher toy --teacher x", "--teacher"),
        ("sample", "'SOURCE'"),
        ("sample toy --format gif", "'png', 'npz'"),
        ("sample toy --steps 0", "--steps"),
        ("sample toy --sampler.kind x", "write sampler.kind=x"),
        ("eval toy --steps 1,b", "--steps 1,b: not a list of whole numbers"),
        ("eval toy --seeds x", "--seeds x"),
        ("eval toy --temperatures 0,1", "a temperature is above 0"),
        ("eval toy --final greedy", "--final greedy: unknown"),
        ("eval toy --dtype float16", "--dtype float16: unknown"),
        ("distil toy", "Did you mean 'distill'?"),
        ("--bogus", "No such option: --bogus"),
    ],
)
def test_usage_errors_are_one_line_and_code_2(run, pipeline, arguments, message):
    result = run(*arguments.split())
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert pipeline.calls == []


def test_resume_refuses_another_role_another_recipe_and_a_living_run(run, pipeline):
    teacher = make_run(role="teacher")
    assert "continue it with `di4c train-teacher" in run("distill", "--resume", teacher.path).stderr
    make_run(recipe="digits")
    assert "is a run of digits, not of toy" in run("distill", "toy", "--resume", "digits/student-1").stderr
    make_run(state="running", pid=1, host="elsewhere")
    assert "still running (process 1 on elsewhere)" in run("distill", "toy", "--resume").stderr
    assert pipeline.calls == []


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (RunError("disk full"), 1),
        (NonFiniteLossError("loss is nan"), 3),
        (Interrupted("saved"), 130),
        (Interrupted("saved", exit_code=143), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(run, pipeline, problem, code):
    pipeline.problem = problem
    result = run("distill", "toy", "--json")
    assert (result.exit_code, result.stdout) == (code, "")
    assert "Traceback" not in result.output
    assert str(problem) in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_comparison(run, pipeline, monkeypatch, number):
    monkeypatch.setattr(pipeline, "evaluate", lambda source, **options: signal.raise_signal(number))
    result = run("distill", "toy", "--name", "n", "--json")
    assert (result.exit_code, result.stdout) == (128 + number, "")
    assert f"stopped by {number.name} (the run has finished; compare with: di4c eval " in result.stderr


def test_a_bug_keeps_its_traceback(run, pipeline):
    pipeline.problem = ZeroDivisionError("a bug")
    assert isinstance(run("distill", "toy").exception, ZeroDivisionError)


def test_dry_run_trains_nothing(run, pipeline):
    result = run("distill", "toy", "--dry-run", "--json", "network.width=8")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["parameters"] > 0
    narrow = ("distill", "toy", "--dry-run", "--json", "network.width=8")
    halves = json.loads(run(*narrow, "train.accumulate=2").stdout)
    wider = json.loads(run("distill", "toy", "--dry-run", "--json", "network.width=16").stdout)
    assert halves["effective_batch"] == facts["effective_batch"] == 32
    assert halves["rows_at_once"] == facts["rows_at_once"] / 2 == 16 * facts["num_latents"]
    for key in ("activations_mb", "law_mb"):
        assert halves[key] == pytest.approx(facts[key] / 2)
    assert wider["activations_mb"] > facts["activations_mb"] > facts["law_mb"]
    assert pipeline.calls == []
    assert "parameters" in run("distill", "toy", "--dry-run").stdout
    assert RunDirectory.find_all() == []


def test_a_dry_run_tells_the_run_that_is_named_and_refuses_the_same_names(run):
    line = ("distill", "toy", "--dry-run", "--json", "network.width=8")
    assert json.loads(run(*line).stdout)["would_write"].endswith("/toy/student-<n>")
    assert json.loads(run(*line, "--name=mine").stdout)["would_write"].endswith("/toy/mine")
    made = RunDirectory.create("toy", "student", "mine")
    made.log("it was begun")
    for name, told in (("mine", "exists already"), ("a/b", "not a plain name")):
        result = run(*line, f"--name={name}")
        assert (result.exit_code, told in result.stderr) == (2, True)


def test_sample_passes_everything_on(run, pipeline):
    line = (
        "sample latest --steps 2 --num 12 --batch-size 4 --seed 5 --out o --format npz --grid --label 3"
        " --guidance -1.5 --teacher-steps 1 --prefix The --sampler tau_leaping --weights raw --dtype float64"
        " --device cpu eval.num=3"
    )
    result = run(*line.split())
    assert result.exit_code == 0, result.output
    ((_, options),) = pipeline.calls
    assert options == {
        "source": "latest",
        "steps": 2,
        "num": 12,
        "batch_size": 4,
        "seed": 5,
        "out": "o",
        "format": "npz",
        "grid": True,
        "label": 3,
        "guidance": -1.5,
        "teacher_steps": 1,
        "prefix": "The",
        "sampler": "tau_leaping",
        "weights": "raw",
        "dtype": "float64",
        "device": "cpu",
        "overrides": ["eval.num=3"],
    }
    assert result.stdout == "out\n"  # many files are told by their folder
    assert run("sample", "latest").stdout.splitlines() == ["out/00000.png", "out/00001.png", "out/00002.png"]
    assert json.loads(run("sample", "latest", "--json").stdout)["nfe"] == 2


def test_eval_passes_everything_on(run, pipeline):
    line = "--steps 1,2 --num 9 --seeds 0,2 --metrics fd,valid --models teacher --guidance 0,1.5"
    line += " --temperatures 0.9,1 --final sample,argmax --dtype float64 --mixed --out o --device cpu a.b=1"
    result = run("eval", "toy", *line.split(), "--json", "--quiet")
    assert json.loads(result.stdout) == EVALUATION
    options = pipeline.calls[0][1]
    options.pop("progress")
    assert options == {
        "source": "toy", "steps": [1, 2], "num": 9, "seeds": [0, 2], "metrics": ["fd", "valid"],
        "models": ["teacher"], "guidance": [0.0, 1.5], "out": "o", "device": "cpu", "overrides": ["a.b=1"],
        "temperatures": [0.9, 1.0], "finals": ["sample", "argmax"], "dtypes": ["float64"], "mixed": True,
    }  # fmt: skip
    assert run("eval", "toy", "--out", "o").stdout.splitlines()[-2:] == EVALUATION["files"]
    run("eval", "toy")
    assert {key: pipeline.calls[2][1][key] for key in ("steps", "seeds", "metrics", "out")} == dict.fromkeys(
        ("steps", "seeds", "metrics", "out")
    )


# -- --monitor -----------------------------------------------------------------------------------

TRAINS = """
import os, sys, time
from di4c_cli.runs import RunDirectory, Status
RunDirectory.create("toy", "student").write_status(Status(role="student", pid=os.getpid()))
time.sleep(30)
"""
FAILS = "import sys; print('no disk', file=sys.stderr); sys.exit(3)"


@pytest.fixture
def watched(monkeypatch):
    """`--monitor` with another program in training's place; what the monitor was shown, what was started."""
    shown: list[list[str]] = []
    started: list[subprocess.Popen] = []
    real = subprocess.Popen

    def start(*args, **kwargs):
        started.append(real(*args, **kwargs))
        return started[-1]

    def watch(program: str, request: training.Request):
        monkeypatch.setattr(training, "_command_line", lambda request: [sys.executable, "-c", program])
        monkeypatch.setattr(training.subprocess, "Popen", start)
        monkeypatch.setattr(training.subprocess, "run", lambda args, check: shown.append(args))
        training._watch(request, None)

    yield watch, shown, started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def request_to_watch():
    return training.Request(
        role="student",
        recipe="toy",
        overrides=["train.steps=9"],
        resume="",
        name=None,
        teacher="t",
        device="cpu",
        nproc=1,
        dry_run=False,
        monitor=True,
        quiet=False,
        json=False,
    )


def test_leaving_the_monitor_leaves_the_run_alive(watched, request_to_watch, capsys):
    watch, shown, started = watched
    watch(TRAINS, request_to_watch)
    assert shown[0][1:4] == ["-m", "di4c_cli", "monitor"]
    assert shown[0][4].endswith("toy/student-1")
    assert started[0].poll() is None
    assert os.getsid(started[0].pid) == started[0].pid  # the terminal's Ctrl-C and hang-up are not for it
    assert f"toy/student-1 goes on as process {started[0].pid}" in capsys.readouterr().err


def test_a_training_that_fails_at_once_is_told(watched, request_to_watch, capsys):
    import typer

    watch, shown, _ = watched
    with pytest.raises(typer.Exit) as caught:
        watch(FAILS, request_to_watch)
    assert caught.value.exit_code == 3
    assert shown == []
    assert capsys.readouterr().err == "no disk\n"


def test_the_command_behind_the_monitor(request_to_watch):
    expected = "-m di4c_cli distill --quiet --resume= --teacher=t --device=cpu toy train.steps=9"
    assert training._command_line(request_to_watch)[1:] == expected.split()


# -- --nproc -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "cause"),
    [
        ({0: 1, 1: -9}, (-9, 1)),  # the killed one, not who misses it
        ({0: 3, 1: 3}, (3, 0)),
        ({0: -15, 1: 2}, (2, 1)),  # told to end because of the other
        ({1: 143}, (143, 1)),
    ],
)
def test_the_exit_code_is_that_of_the_process_that_ended_the_others(codes, cause):
    assert several._cause(codes) == cause


def test_a_process_among_several_starts_no_others(monkeypatch):
    assert several.wanted(2)
    assert not several.wanted(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not several.wanted(2)
