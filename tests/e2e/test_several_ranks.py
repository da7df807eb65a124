"""One rank and several: the same curves, the same samples, and runs that go on with more or fewer of them."""

import json
import os
import shutil
import signal
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from several import on_ranks

from di4c_cli import pipeline, recipe_file, shipped
from di4c_cli.core import ranks
from di4c_cli.core.checkpoints import read_config
from di4c_cli.errors import Interrupted, RunError
from di4c_cli.handing_over import hand_over
from di4c_cli.runs import RunDirectory

STEPS = 50
TOY = [
    *("network.width=16", "network.depth=2", "student.num_latents=4", "train.batch_size=9"),
    *("train.accumulate=2", "train.log_every=1", "preview.num=4", "eval.num=20", "eval.steps=[1,2]"),
]
DIGITS_TEACHER = [
    "network.width=16",
    "teacher.train.batch_size=9",
    "teacher.train.accumulate=2",
    "preview.num=4",
]


def train(role="student", recipe="toy", *overrides, resume=None, name=None, stop=None, kill=None, **several):
    """A short run in float64, of this rank or alone; `stop`, `kill`: (rank, step) of a signal."""
    section = "teacher.train" if role == "teacher" else "train"
    settings = {"steps": STEPS, "log_every": 1, "save_every": 20, **several}
    given = [f"{section}.{key}={json.dumps(value)}" for key, value in settings.items()]
    base = DIGITS_TEACHER if recipe == "digits" else TOY
    loaded = recipe_file.load(shipped.find_recipe(recipe), [*base, "preview.every=25", *given, *overrides])

    def progress(step, steps, row):
        for number, when in ((signal.SIGTERM, stop), (signal.SIGKILL, kill)):
            if when == (int(os.environ.get("RANK", 0)), step):
                os.kill(os.getpid(), number)

    torch.set_default_dtype(torch.float64)
    try:
        options = {"resume": RunDirectory.resolve(resume) if resume else None, "name": name}
        pipeline.train(loaded, role=role, device="cpu", progress=progress, **options)
    except Interrupted as stopped:
        return str(stopped)
    finally:
        torch.set_default_dtype(torch.float32)
    return None


def run(name: str) -> RunDirectory:
    return RunDirectory.resolve(name)


def rows(name: str) -> list[dict]:
    """Figures of a run's metrics.jsonl but for those of the clock and the machine; no step is there twice."""
    apart = ("time", "elapsed", "samples_per_s", "memory_mb")
    found = [{k: v for k, v in row.items() if k not in apart} for row in run(name).metrics()]
    assert [row["step"] for row in found] == list(range(1, STEPS + 1))
    return found


def assert_close(name: str, other: str, within: float) -> None:
    for first, second in zip(rows(name), rows(other), strict=True):
        assert first == pytest.approx(second, abs=within)
    for file in ("model.safetensors", "ema.safetensors"):
        first, second = load_file(run(name).final / file), load_file(run(other).final / file)
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert value.dtype == second[key].dtype
            torch.testing.assert_close(value, second[key], rtol=0, atol=within, msg=key)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Makes runs on one rank, each once, below a root of this module's own."""
    root = tmp_path_factory.mktemp("several")
    made = set()

    def alone(role="student", recipe="toy") -> str:
        os.environ["DI4C_RUNS"] = str(root)  # the fixture of every test puts it back
        if (role, recipe) not in made:
            train(role, recipe, name=f"alone-{role}")
            made.add((role, recipe))
        return f"{recipe}/alone-{role}"

    return alone


@pytest.mark.parametrize(
    ("role", "recipe", "shard"),
    [
        ("student", "toy", False),
        ("student", "toy", True),
        pytest.param("teacher", "digits", True, marks=pytest.mark.slow),
        pytest.param("teacher", "digits", False, marks=pytest.mark.slow),
    ],
)
def test_two_ranks_have_the_curve_of_one(alone, role, recipe, shard):
    one, name = alone(role, recipe), f"two-{role}-{shard}"
    on_ranks(2, lambda rank: train(role, recipe, name=name, shard=shard))
    assert_close(f"{recipe}/{name}", one, 1e-5)
    log = run(f"{recipe}/{name}").log_path.read_text().splitlines()
    assert len(log) == len(set(log)) == 2
    previews = sorted(path.name for path in (run(one).path / "samples" / "step-25").iterdir())
    assert previews == sorted(
        p.name for p in (run(f"{recipe}/{name}").path / "samples" / "step-25").iterdir()
    )


@pytest.mark.parametrize(
    ("before", "after", "shard"),
    [
        (2, 1, True),
        pytest.param(1, 2, True, marks=pytest.mark.slow),
        pytest.param(2, 1, False, marks=pytest.mark.slow),
        pytest.param(1, 2, False, marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_with_another_number_of_ranks(alone, before, after, shard):
    one, name = alone(), f"from-{before}-to-{after}-{shard}"
    where = f"toy/{name}"
    # whichever rank the signal comes to, all stop after the same step
    told = on_ranks(before, lambda rank: train(name=name, shard=shard, stop=(before - 1, 23)))
    assert (
        told == [f"stopped at step 23 of {STEPS}; saved (continue with --resume {run(where).path})"] * before
    )
    assert run(where).status().state == "interrupted"
    assert [path.name for path in run(where).checkpoints()] == ["step-20", "step-23"]
    assert on_ranks(after, lambda rank: train(resume=where, shard=shard)) == [None] * after
    assert_close(where, one, 1e-5)


def test_a_batch_smaller_than_the_ranks_is_refused(alone):
    alone()
    before = set(Path(os.environ["DI4C_RUNS"]).rglob("*"))

    def work(rank):
        try:
            train("student", "toy", "train.batch_size=1")
        except Exception as error:
            return str(error)

    told, quiet = on_ranks(2, work)
    assert told.endswith("train.batch_size: 1 data points for 2 processes (raise it, or start fewer)")
    assert quiet.code == 2
    assert set(Path(os.environ["DI4C_RUNS"]).rglob("*")) == before


def test_samples_and_figures_are_those_of_one_rank(alone, tmp_path):
    source = alone()

    def work(rank, out):
        drawn = pipeline.sample(source, steps=2, num=11, batch_size=3, out=str(tmp_path / out), format="npz")
        found = pipeline.evaluate(
            source, steps=[1, 2], num=20, seeds=[0, 1], out=str(tmp_path / f"{out}-eval")
        )
        shown = [{k: v for k, v in row.items() if k != "seconds_per_sample"} for row in found["rows"]]
        return [Path(path).read_bytes() for path in drawn["files"]], shown

    one = work(0, "one")
    assert on_ranks(3, lambda rank: work(rank, "three")) == [one] * 3
    assert len(one[1]) == 8


def test_the_calls_handed_over_are_those_of_one_rank(alone):
    source, device = run(alone()), torch.device("cpu")

    def work(rank, name):
        if rank == 0:
            shutil.copytree(source.path, source.path.with_name(name))
        ranks.join(device)
        ranks.gathered(None)  # the copy is there
        found = hand_over(f"toy/{name}", {"steps": [1, 5], "num": 20, "batch": 3, "num_latents": 4}, device)
        stated = read_config(run(f"toy/{name}").final)["recipe"]["sampler"]["by_teacher"]
        assert [entry["calls"] for entry in stated] == [row["calls"] for row in found["rows"]]
        return found["rows"]

    one = work(0, "handed-one")
    assert [row["steps"] for row in one] == [1, 5]
    assert on_ranks(3, lambda rank: work(rank, "handed-three")) == [one] * 3


def test_a_hand_over_that_fails_on_one_rank_ends_all_and_keeps_nothing(alone):
    source = run(alone())
    before = read_config(source.final)

    def work(rank):
        def alive():
            if rank == 1:
                raise RunError("no more")

        try:
            hand_over(str(source.final), {"steps": [1], "num": 4}, ranks.join(torch.device("cpu")), alive)
        except (RunError, SystemExit) as error:
            return str(error)

    assert on_ranks(2, work) == ["process 1: no more", "1"]
    assert read_config(source.final) == before


def test_a_rank_that_is_killed_ends_the_others_and_the_run_goes_on(alone):
    one, killed = alone(), time.monotonic()

    def work(rank):
        try:
            train(name="killed", kill=(1, 30))
        except RunError as error:
            return str(error)

    told = "another process of this run has ended (it may have told why; a run goes on with --resume)"
    assert on_ranks(2, work) == [told, -signal.SIGKILL]
    assert time.monotonic() - killed < 30
    assert (run("toy/killed").status().state, run("toy/killed").status().message) == ("failed", told)
    assert on_ranks(2, lambda rank: train(resume="toy/killed")) == [None, None]
    assert_close("toy/killed", one, 1e-5)


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed(program):
    """As users start them: `--nproc`."""
    settings = [*TOY, "preview.every=0", "metrics=[]", "train.steps=3000", "train.save_every=20"]
    made = RunDirectory(program.runs / "toy/student-1")
    with program.started("distill", "toy", *settings, "--nproc", 2, "--json") as process:
        while sum(1 for _ in made.metrics()) < 30:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        ranks = {child.environ().get("RANK"): child for child in psutil.Process(process.pid).children()}
        ranks["1"].kill()
        killed = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert (process.returncode, out) == (137, "")
    told = "another process of this run has ended (it may have told why; a run goes on with --resume)"
    assert told in err.splitlines()
    assert err.splitlines()[-1].startswith("process 1 was killed by SIGKILL")
    assert "2 processes: batch of 9, 1 part(s) of 4 to 5 on each" in err
    assert made.status().state == "failed"
    assert [path.name for path in made.path.parent.iterdir()] == ["student-1"]
    assert "Traceback" not in err
    program.ok("distill", "--resume", "latest", "train.steps=60")
    assert [row["step"] for row in made.metrics()] == list(range(1, 61))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_to_two_processes_saves_one_checkpoint(program, number):
    settings = [*TOY, "preview.every=0", "metrics=[]", "train.steps=3000"]
    made = RunDirectory(program.runs / "toy/student-1")
    with program.started("distill", "toy", *settings, "--nproc", 2) as process:
        while sum(1 for _ in made.metrics()) < 30:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert made.status().state == "interrupted"
    assert [path.name for path in made.checkpoints()] == [f"step-{made.status().step}"]


@pytest.mark.slow
def test_two_processes_whose_launcher_is_killed_save_and_stop(program):
    settings = [*TOY, "preview.every=0", "metrics=[]", "train.steps=20000", "train.save_every=20000"]
    made = RunDirectory(program.runs / "toy/student-1")
    with program.started("distill", "toy", *settings, "--nproc", 2) as process:
        while sum(1 for _ in made.metrics()) < 30:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children()
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    assert made.status().state == "interrupted"
    assert [path.name for path in made.checkpoints()] == [f"step-{made.status().step}"]


@pytest.mark.slow
def test_two_agents_of_torchrun_as_on_two_machines(program):
    """A scheduler's SIGTERM saves; where a machine dies the other stops; one process takes the run on."""
    made = RunDirectory(program.runs / "toy/student-1")
    settings = [*TOY, "preview.every=0", "metrics=[]", "train.steps=5000", "train.save_every=20"]

    @contextmanager
    def two_agents(*line):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{free.getsockname()[1]}"
        by = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--shutdown-timeout=60"]
        by += ["--rdzv-backend=c10d", "--rdzv-id=toy", f"--rdzv-endpoint={place}"]
        before = sum(1 for _ in made.metrics())
        with program.started(*line, by=by) as one, program.started(*line, by=by) as two:
            while sum(1 for _ in made.metrics()) < before + 30:
                assert one.poll() is two.poll() is None, one.communicate()
                time.sleep(0.05)
            yield one, two

    with two_agents("distill", "toy", *settings) as agents:
        for agent in agents:
            agent.terminate()
        for agent in agents:
            agent.communicate(timeout=60)
    assert made.status().state == "interrupted"
    assert made.checkpoints()[-1].name == f"step-{made.status().step}"
    with two_agents("distill", "--resume", "latest") as agents:
        one, two = agents
        (lost,) = psutil.Process(two.pid).children()
        killed = time.monotonic()
        for process in (two, lost):
            process.kill()
        _, err = one.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert "another process of this run has ended" in err
    assert made.status().state == "failed"
    steps = made.status().step + 20
    program.ok("distill", "--resume", "latest", f"train.steps={steps}")
    assert [row["step"] for row in made.metrics()] == list(range(1, steps + 1))
