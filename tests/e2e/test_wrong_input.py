"""Whatever is wrong with what was given: a line with the place and a hint, exit code 2, nothing written."""

import json
import shlex
import socket
import time

import pytest
from program import TINY
from refusal import refused

BROKEN = {
    "syntax.toml": 'title = "x"\nthreads = = 1\n',
    "keys.toml": """\
[codec]
kind = "states"
num_dims = 5
num_state = 3

[dataset]
kind = "toy"
joint = "markow"

[process]
kind = "maskd"
""",
    "binary.toml": "\x00\xff",
}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        # recipes and overrides
        ("distill toyy", ["toyy: no such recipe", "Did you mean 'toy'?"]),
        ("distill nothere.toml", ["nothere.toml: no such file", "di4c recipes"]),
        ("distill toy train.stepz=3", ["override train.stepz=3: unknown key", "Did you mean 'train.steps'?"]),
        ("distill toy train.steps=abc", ["override train.steps=abc: should be a valid integer"]),
        ("distill toy train.steps=0", ["train.steps=0", "greater than or equal to 1"]),
        ("distill toy train.seed=99999999999999999999", ["train.seed", "less than"]),
        ("distill toy process.kind=maskd", ["unknown kind 'maskd'", "Did you mean 'masked'?"]),
        ("distill toy process.kind=uniform", ["toy.toml: student: ", "needs a process with a mask"]),
        ("distill toy network=null", ["network", "is missing"]),
        ("distill toy --train.steps 5", ["--train.steps 5", "write train.steps=5"]),
        ("distill toy train.steps", ["train.steps: not an override", "write key=value"]),
        ("distill toy preview.steps=[0]", ["preview.steps.0", "greater than or equal to 1"]),
        ("distill toy 'eval.models=[\"studnt\"]'", ["eval.models.0", "'teacher', 'student' or 'hybrid'"]),
        ("distill toy codec.num_dims=40", ["codec: a toy has at most", "lower num_dims"]),
        ("distill digits codec.height=9", ["codec: the digits are grey images of 8x8", "set height = 8"]),
        ("distill digits network.width=16", ["ema.safetensors: made for another network", "[network]"]),
        ("recipes check nothere", ["nothere: no such recipe", "shipped: "]),
        ("recipes show toy a.b=1", ["override a.b=1: ", "unknown key"]),
        # training
        ("distill", ["which recipe?", "di4c distill digits"]),
        ("distill words", ["words: no teacher yet", "di4c train-teacher words"]),
        ("distill digits --teacher nothere", ["nothere: no such run, checkpoint or recipe", "shipped: "]),
        ("distill digits --device cuda:7", ["--device cuda:7: not ", "use auto or cpu"]),
        ("distill digits --device gpu", ["--device", "'gpu' is none of auto, cpu"]),
        ("distill toy --name a/b", ["--name 'a/b': not a plain name", "use letters"]),
        ("distill toy --nproc 2 --device cuda:0", ["--device cuda:0", "several processes"]),
        ("distill --resume nothere", ["nothere: no such run", "di4c runs"]),
        ("distill --resume", ["there is no student run yet", "di4c runs"]),
        ("train-teacher toy", ["toy: its teacher is exact, there is nothing to train", "di4c distill"]),
        ("distill digits classes=9", ["classes: the data set has the label 9", "raise classes"]),
        ("distill toy classes=3", ["classes: the data set has no labels", "set classes = 0"]),
        ("distill digits student.init=nowhere", ["nowhere: no checkpoint here"]),
        ("train-teacher digits teacher.losses.0.kind=marginal", ["teacher.losses.0: ", "needs a teacher"]),
        ("distill toy 'metrics=[{kind=\"copies\"}]'", ["metrics: 0 (copies): compares images; leave it out"]),
        ('distill toy \'metrics=[{kind="tv"},{kind="tv"}]\'', ["1 (tv) gives tv, and so does 0 (tv)"]),
        # sampling
        ("sample nothere", ["nothere: no such run, checkpoint or recipe", "shipped: "]),
        ("sample digit", ["digit: no such run", "Did you mean 'digits'?"]),
        ("sample digits/student-1", ["digits/student-1: no such run"]),
        ("sample latest", ["latest: no runs below", "di4c distill digits"]),
        ("sample .", [".: neither a run nor a checkpoint", "no status.json"]),
        ("sample words", ["words: no teacher yet", "di4c train-teacher words"]),
        ("sample imagenet", ["teacher.checkpoint: no run or checkpoint folder maskgit", "`di4c convert`"]),
        ("sample owt_round2", ["teacher.checkpoint: no run or checkpoint folder owt/student-1", "earlier"]),
        ("sample digits --format txt", ["--format txt: not for image data", "png, npz, jsonl"]),
        ("sample digits --format smi", ["--format smi: not for image data"]),
        ("sample digits --format bmp", ["--format", "'bmp'"]),
        ("sample toy --format png", ["--format png: not for text data", "txt, jsonl, npz"]),
        ("sample digits --out one.png", ["--out one.png: png is one file per image", "give a folder"]),
        ("sample digits --out /dev/null/x", ["/dev/null/x: cannot be written", "choose another place"]),
        ("sample digits --label 3", ["--label 3: digits is not told classes", "leave --label out"]),
        ("sample digits --guidance 1.5", ["--guidance 1.5: ", "leave --guidance out"]),
        ("sample digits --prefix a", ["--prefix a: ", "leave --prefix out"]),
        ("sample digits --steps 0", ["--steps", "greater than or equal to 1"]),
        ("sample digits --seed 99999999999999999999", ["--seed", "less than or equal"]),
        ("sample digits --teacher-steps 9", ["--teacher-steps 9: not between 0 and --steps 4"]),
        ("sample digits --sampler ancestrl", ["unknown kind 'ancestrl'", "Did you mean 'ancestral'?"]),
        ("sample digits process.kind=uniform process.schedule=null", ["digits/teacher: teacher: ", "a mask"]),
        # evaluation
        ("eval nothere", ["nothere: no such run, checkpoint or recipe"]),
        ("eval toy --metrics tvv", ["--metrics tvv: not in this recipe", "it gives tv"]),
        ("eval toy --models studnt", ["--models studnt: unknown", "teacher, student, hybrid"]),
        ("eval toy --models student", ["--models student: not at hand", "finished student run"]),
        ("eval toy --steps 1,0", ["--steps 1,0: numbers begin at 1"]),
        ("eval toy --steps a", ["--steps a: not a list of whole numbers", "write --steps 1,2,4"]),
        ("eval toy --seeds 3,4,3", ["--seeds 3,4,3: 3 stands there 2 times", "once is enough"]),
        ("eval toy --steps 2,2", ["--steps 2,2: 2 stands there"]),
        ("eval toy --guidance 1,1.0", ["--guidance 1,1.0: 1.0 stands there"]),
        ("eval toy --models teacher,teacher", ["--models teacher,teacher: teacher stands there"]),
        ("hand-over toy --steps 2,4,2", ["--steps 2,4,2: 2 stands there"]),
        ("distill toy eval.seeds=[3,3]", ["eval.seeds=[3,3]: holds 3 more than once"]),
        ("distill toy eval.steps=[1,2,1]", ["eval.steps=[1,2,1]: holds 1 more than once"]),
        ("distill toy preview.steps=[2,2]", ["preview.steps=[2,2]: holds 2 more than once"]),
        ("distill toy hand_over.steps=[2,2]", ["hand_over.steps=[2,2]: holds 2 more than once"]),
        ("eval toy --seeds -1", ["--seeds -1: numbers begin at 0"]),
        ("eval toy --out /dev/null/x", ["/dev/null/x: cannot be written"]),
        ("eval digits --num 1 --metrics fd", ["eval.num: a Frechet distance needs at least 2 samples"]),
        # the rest
        ("distil toy", ["distil: no such command", "Did you mean 'distill'?"]),
        ("runs show nothere", ["nothere: no such run", "di4c runs"]),
        ("monitor nothere --once", ["nothere: no such run"]),
    ],
)
def test_one_line_with_the_place_and_a_hint(program, line, told):
    (complaint,) = refused(program, *shlex.split(line))
    for part in told:
        assert part in complaint


@pytest.mark.parametrize(
    ("value", "told"),
    [("loss.mean()", "gives () for"), ("loss[:, None]", "gives (1, 1) for"), ("None", "gives NoneType for")],
)
def test_a_loss_of_another_shape_is_found_before_there_is_a_run(program, value, told):
    """A mean would be trained on, with the weights of all times mixed up."""
    prelude = f"""
from di4c_cli.core.losses import datapoint
build = datapoint.Config.build
def changed(self):
    def value(segment):
        loss = build(self)(segment)
        return {value}
    return value
datapoint.Config.build = changed
"""
    for command in (["distill", "digits"], ["distill", "digits", "--dry-run"]):
        outcome = program(*command, prelude=prelude)
        assert outcome.code == 2
        (complaint,) = outcome.complaint
        assert "losses.1: datapoint " + told in complaint
        assert "of shape (B,)" in complaint
    assert not program.runs.exists()


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("syntax.toml", ["syntax.toml:2: Invalid value"]),
        (
            "keys.toml",
            [
                "keys.toml:1: network: is missing",
                "keys.toml:4: codec.num_state: unknown key of kind 'states'. Did you mean 'num_states'?",
                "keys.toml:8: dataset.joint: should be 'pairs', 'parity', 'sparse' or 'markov', not",
                "keys.toml:11: process.kind: unknown kind 'maskd'",
            ],
        ),
        ("binary.toml", ["binary.toml"]),
    ],
)
def test_every_error_of_a_recipe_file_at_its_line(program, file, told):
    (program.home / file).write_bytes(BROKEN[file].encode("latin-1"))
    complaint = refused(program, "distill", file)
    for part in told:
        assert any(part in line for line in complaint), (part, complaint)


def test_a_taken_name_is_not_overwritten(beside):
    taken = beside.runs / "digits/student-1/status.json"
    before = taken.read_bytes()
    (complaint,) = refused(beside, "distill", "digits", *TINY, "--name", "student-1")
    assert "student-1: exists already (choose another --name, or continue it with --resume)" in complaint
    assert taken.read_bytes() == before


def test_a_run_is_resumed_by_its_own_command_and_only_if_there_is_more_to_do(beside):
    (complaint,) = refused(beside, "distill", "--resume", "digits/teacher-1")
    assert "teacher-1: is a teacher run (continue it with `di4c train-teacher --resume" in complaint
    (complaint,) = refused(beside, "train-teacher", "--resume", "latest")
    assert "teacher-1: has finished its 40 steps (raise teacher.train.steps to train on)" in complaint


# -- data ----------------------------------------------------------------------------------------


def test_missing_text(program):
    (complaint,) = refused(program, "train-teacher", "words", "dataset.path=nothere.txt")
    assert "nothere.txt: No such file or directory (set dataset.path to a text file)" in complaint


def test_damaged_mnist(program, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    (data / "mnist").mkdir()
    (data / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    (complaint,) = refused(program, "train-teacher", "mnist", DI4C_DATA=str(data))
    assert str(data / "mnist" / "train-images-idx3-ubyte.gz") in complaint
    assert "$DI4C_DATA/mnist" in complaint


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_mnist_without_data_or_network_says_so_soon(program, tmp_path_factory, answers):
    """A network that refuses, and one that takes the connection and never answers."""
    cache = tmp_path_factory.mktemp("cache")
    with socket.create_server(("127.0.0.1", 0)) as server:
        env = {"XDG_CACHE_HOME": str(cache)}
        if answers:
            address = f"http://127.0.0.1:{server.getsockname()[1]}"
            env |= {"http_proxy": address, "https_proxy": address}
        prelude = "import di4c_cli.core.datasets.mnist as mnist; mnist.TIMEOUT = 0.5"
        started = time.monotonic()
        (complaint,) = refused(program, "train-teacher", "mnist", prelude=prelude, **env)
    assert time.monotonic() - started < 20
    assert f"MNIST could not be downloaded to {cache}" in complaint
    assert "$DI4C_DATA/mnist" in complaint


def test_runs_that_cannot_be_written(program):
    """Nothing can be trained; evaluating elsewhere still works, without the cache that would lie there."""
    (complaint,) = refused(program, "distill", "toy", *TINY, DI4C_RUNS="/dev/null/runs")
    assert "/dev/null/runs: cannot be written" in complaint
    quick = "from di4c_cli.core.metrics import _features as f; f.SETTINGS = f.Settings(steps=2)"
    options = ["--steps", 1, "--num", 10, "--metrics", "fd", "--out", "report"]
    outcome = program("eval", "digits", *options, prelude=quick, DI4C_RUNS="/dev/null/runs")
    assert outcome.code == 0, outcome.err
    assert (program.home / "report/results.json").is_file()


# -- failures that are nobody's mistake ----------------------------------------------------------


@pytest.mark.parametrize("log_every", [1, 20])
def test_a_diverged_run_stops_with_code_3(program, log_every):
    settings = ["train.lr=1e30", "train.steps=40", f"train.log_every={log_every}", "train.batch_size=4"]
    outcome = program("distill", "toy", *settings, "preview.every=0", "--quiet")
    assert outcome.code == 3
    (complaint,) = outcome.complaint
    assert "not finite at step" in complaint
    assert "lower train.lr" in complaint
    run = program.runs / "toy/student-1"
    assert json.loads((run / "status.json").read_text(encoding="utf-8"))["state"] == "failed"
    assert not (run / "final").exists()
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if log_every == 1 else []:
        assert "NaN" not in line


def test_samples_on_a_full_disk(program):
    full = """
import errno, numpy
def savez(path, **arrays):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))
numpy.savez = savez
"""
    outcome = program("sample", "digits", "--num", 2, "--format", "npz", "--out", "x", prelude=full)
    assert outcome.code == 1
    (complaint,) = outcome.complaint
    assert complaint == "x: cannot be written: No space left on device (make room and try again)"
