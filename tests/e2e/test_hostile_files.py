"""Files that somebody made to do harm: refused in a line, nothing executed, nothing written elsewhere."""

import gzip
import json
import os
import pickle
import shutil
import struct
import tomllib
from pathlib import Path

import pytest
from program import TINY, Program
from refusal import refused

from di4c_cli.core.checkpoint_header import header_text
from di4c_cli.core.checkpoints import _sha256
from di4c_cli.redaction import redacted, redacted_toml


@pytest.fixture
def checkpoint(digits, tmp_path):
    """A finished student from elsewhere."""
    return shutil.copytree(digits.runs / "digits/student-1/final", tmp_path / "given")


def restated(folder, **changes):
    """A header that is changed, and right about everything else."""
    path = folder / "config.json"
    header = json.loads(path.read_text(encoding="utf-8")) | changes
    header["files"] = {file.name: _sha256(file) for file in folder.glob("*.safetensors")}
    path.write_text(header_text(header), encoding="utf-8")


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch executed",))


def bomb(length: int) -> bytes:
    """A safetensors file whose header says that it is that long."""
    return struct.pack("<Q", length) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4)


def huge_tensor() -> bytes:
    """One tensor of 4 TB, says the header."""
    size = 2**40
    header = json.dumps({"a": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64)


CONTENTS = {
    "pickle": pickle.dumps(Payload()),
    "header without end": bomb(2**62),
    "header of a GB": bomb(2**30),
    "tensor without end": huge_tensor(),
    "negative": bomb(2**64 - 1),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_hostile_weights(beside, checkpoint, content):
    """With the right hash: whoever made the folder made that too."""
    (checkpoint / "ema.safetensors").write_bytes(content)
    restated(checkpoint)
    (complaint,) = refused(beside, "sample", checkpoint)
    assert "ema.safetensors: cannot be read" in complaint


LITTLE_MEMORY = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**29, 3 * 2**29))"


@pytest.mark.parametrize(
    ("key", "size", "told"),
    [
        ("width", 24, "of another shape: network."),
        ("width", 12_000, "it has many more numbers than the file"),
        ("width", 10**6, "it has many more numbers than the file"),
        ("width", 10**18, "made for another network: "),
        ("depth", 10**9, "it has many more tensors than the file"),
    ],
)
def test_sizes_in_a_header_take_no_memory_before_they_are_those_of_the_weights(
    beside, checkpoint, key, size, told
):
    recipe = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["recipe"]
    restated(checkpoint, recipe=recipe | {"network": recipe["network"] | {key: size}})
    (complaint,) = refused(beside, "sample", checkpoint, "--teacher-steps", 0, prelude=LITTLE_MEMORY)
    assert told in complaint


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("kind", ["mdlm", "vqgan"])
def test_hostile_released_files(program, content, kind):
    given = program.home / "given.bin"
    given.write_bytes(content)
    (complaint,) = refused(program, "convert", given, "--kind", kind, "--out", "out")
    assert f"{given}: " in complaint


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "..", "a/b", "a\\b", "a\x1b[2J"])
def test_names_that_lead_elsewhere(beside, checkpoint, name):
    """Samples and reports are put into folders that are called after the recipe."""
    restated(checkpoint, name=name)
    for command in ("sample", "eval"):
        (complaint,) = refused(beside, command, checkpoint)
        assert "is no name of a recipe" in complaint


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("network.kind=../../../evil", "unknown kind '../../../evil'"),
        ("network.kind=os", "unknown kind 'os'"),
        ("metrics.0.kind=..metrics", "unknown kind '..metrics'"),
        ("codec.kind=_folder", "unknown kind '_folder'"),
        ("student.init=../../elsewhere", "no checkpoint here"),
    ],
)
def test_kinds_are_no_paths(program, line, told):
    (complaint,) = refused(program, "distill", "digits", line)
    assert told in complaint


def test_a_recipe_file_whose_name_leads_elsewhere(program):
    (program.home / "...toml").write_text((Path("recipes") / "toy.toml").read_text(), encoding="utf-8")
    (complaint,) = refused(program, "distill", "...toml", *TINY, "network.depth=2")
    assert "'..' is no name of a recipe" in complaint


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", "-x", "a b"])
def test_names_of_runs_are_no_paths(program, name):
    (complaint,) = refused(program, "distill", "toy", f"--name={name}", *TINY, "network.depth=2")
    assert "not a plain name" in complaint


def test_halves_of_characters_in_a_header(beside, checkpoint):
    """JSON can spell what no text file can hold."""
    recipe = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["recipe"]
    restated(checkpoint, recipe=recipe | {"title": "\ud800"})
    (complaint,) = refused(beside, "sample", checkpoint)
    assert "holds half of a character" in complaint
    restated(checkpoint, recipe=recipe, name="\ud800")
    assert refused(beside, "sample", checkpoint)


def test_a_vocabulary_that_is_not_gpt2s(program):
    folder = program.home / "vocabulary"
    folder.mkdir()
    (folder / "encoder.json").write_text('{"\\ud800": 0}', encoding="utf-8")
    text = program.home / "text.txt"
    text.write_text("some words\n" * 500, encoding="utf-8")
    line = ["codec.kind=gpt2", "codec.length=8", f"codec.path={folder}", f"dataset.path={text}"]
    complaint = refused(program, "distill", "shakespeare", *line, "codec.alphabet=null")
    assert complaint


def test_a_gzip_bomb_in_place_of_mnist(program):
    """A GB of zeros in a MB."""
    folder = program.home / "data/mnist"
    folder.mkdir(parents=True)
    packed = gzip.compress(bytes(2**20))
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte.gz").write_bytes(packed * 1024)
    outcome = program("train-teacher", "mnist", prelude=LITTLE_MEMORY, DI4C_DATA=str(program.home / "data"))
    assert outcome.code == 2, outcome.err
    assert "not the MNIST file it should be" in outcome.err
    assert not program.runs.exists()


def test_a_settings_file_that_names_a_class(program):
    """Configurations of the VQGAN's authors name the classes to build; here such names are words."""
    (program.home / "given.ckpt").write_bytes(bomb(54))
    for text in (
        "model:\n  target: os.system\n  params:\n    command: touch executed\n",
        'model: !!python/object/apply:os.system ["touch executed"]\n',
    ):
        (program.home / "model.yaml").write_text(text, encoding="utf-8")
        assert refused(program, "convert", "given.ckpt", "--kind", "vqgan", "--out", "out")


def test_links_in_a_run_are_not_followed_when_it_is_cleaned_up(program):
    """Old checkpoints and what a killed writer left are removed: what links lead to stays."""
    settings = [*TINY, "metrics=[]", "train.save_every=10", "train.keep=1"]
    program.ok("distill", "toy", *settings, "network.depth=2", "train.steps=20")
    treasure = program.home / "treasure"
    treasure.mkdir()
    (treasure / "gold").write_text("gold")
    run = program.runs / "toy/student-1"
    for name in ("step-1", "step-30.tmp", ".step-10.old", ".status.json.1.tmp", ".step-1.tmp"):
        (run / name).symlink_to(treasure)
    program.ok("distill", "--resume", "latest", "train.steps=40")
    assert [path.name for path in treasure.iterdir()] == ["gold"]
    assert {path.name for path in run.iterdir() if path.is_symlink()} == set()


@pytest.mark.parametrize("place", ["log.txt", "metrics.jsonl", "samples", "samples/step-30/grid.png"])
def test_links_in_a_run_are_not_written_through(program, place):
    settings = [*TINY, "metrics=[]", "train.save_every=10", "network.depth=2", "train.steps=20"]
    program.ok("distill", "toy", *settings)
    treasure, link = program.home / "treasure", program.runs / "toy/student-1" / place
    if link.exists():
        link.rename(treasure)
    else:
        treasure.write_text("gold")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(treasure)
    (complaint,) = refused(program, "distill", "--resume", "latest", "train.steps=40")
    assert f"{link}: is a link or a pipe" in complaint


def test_pipes_in_place_of_files_keep_nobody_waiting(program):
    program.ok("distill", "toy", *TINY, "metrics=[]", "network.depth=2")
    run = program.runs / "toy/student-1"
    for name in ("metrics.jsonl", "resolved.json", "final/config.json"):
        (run / name).unlink()
        os.mkfifo(run / name)
    (row,) = program.ok("runs", "--json").json
    assert row["state"] == "finished"
    program.ok("runs", "show", "latest")
    program.ok("monitor", "--once")
    assert refused(program, "sample", run / "final")
    (complaint,) = refused(program, "distill", "--resume", "latest", "train.steps=60")
    assert f"{run / 'metrics.jsonl'}: is a link or a pipe" in complaint


def test_permissions_are_kept(program):
    settings = [*TINY, "metrics=[]", "network.depth=2", "train.steps=10"]
    program.ok("distill", "toy", *settings)
    run = program.runs / "toy/student-1"
    private = [
        run / name for name in ("status.json", "resolved.json", "recipe.toml", "metrics.jsonl", "final")
    ]
    for path in private:
        path.chmod(0o700 if path.is_dir() else 0o600)
    program.ok("distill", "--resume", "latest", "train.steps=20")
    assert [oct(path.stat().st_mode & 0o077) for path in private] == ["0o0"] * len(private)


# -- secrets -------------------------------------------------------------------------------------


def test_what_is_hidden():
    assert redacted(["https://me:pass@host/x", "hf.token=abc", "most_tokens=3", "a=b"]) == [
        *("https://***@host/x", "hf.token=***", "most_tokens=3", "a=b"),
    ]
    assert redacted({"api_key": "abc", "tokens": "x", "deep": [{"password": "p", "n": 3}]}) == {
        "api_key": "***", "tokens": "x", "deep": [{"password": "***", "n": 3}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("https://me:HIDE@host/x?access_token=HIDE", "https://***@host/x?access_token=***"),
        ("a=https://me:HIDE@host/x and b", "a=https://***@host/x and b"),
        ("https://u:HI@DE@host", "https://***@host"),
        ("https://u:HI/DE@host", "https://***@host"),
        ("a https://host/x?n=1&X-Amz-Signature=HIDE#y", "a https://host/x?n=1&X-Amz-Signature=***#y"),
        ('dataset={kind="x",token="HIDE"}', 'dataset={kind="x",token="***"}'),
        ("dataset={kind=x,api-key=HIDE,n=3}", "dataset={kind=x,api-key=***,n=3}"),
        ("hf.token=HIDE all of it", "hf.token=***"),
        *((same, same) for same in ("tokens=5", "mask_token_id=3", "codec.kind=mnist_tokens", "keys=[1]")),
    ],
)
def test_secrets_anywhere_in_an_argument(given, written):
    assert redacted(given) == written


def test_a_recipe_without_its_secrets_is_the_same_recipe():
    text = """
        # token = "HIDE", or https://u:HIDE@host; the secret = [not closed
        token = "HIDE"  # stays
        hf."my.secret" = '''
        HIDE'''
        password = 12345# stays
        credentials = {user = "HIDE", all = ["HIDE", "]"]}
        api_key = [
            "HIDE",  # don't ]
        ]
        dataset = {kind = "x", token = "HIDE", n = 3}
        title = "a token=HIDE"
        tokens = 5
        mask_token_id = 7
        keys = ["a"]
        codec.kind = "mnist_tokens"
    """
    written = redacted_toml(text)
    assert "HIDE" not in written
    assert written.count("stays") == 2
    assert tomllib.loads(written) == {
        **dict.fromkeys(("token", "password", "credentials", "api_key"), "***"),
        "hf": {"my.secret": "***"},
        "dataset": {"kind": "x", "token": "***", "n": 3},
        "title": "a token=***",
        "tokens": 5,
        "mask_token_id": 7,
        "keys": ["a"],
        "codec": {"kind": "mnist_tokens"},
    }
    for path in Path("recipes").glob("*.toml"):
        shipped = path.read_text(encoding="utf-8")
        assert redacted_toml(shipped) == shipped


def test_secrets_are_not_written_down(program: Program):
    """Neither passwords in addresses, nor what is named a secret, nor anything of the environment."""
    recipe = (Path("recipes") / "toy.toml").read_text(encoding="utf-8")
    title = 'title = "from https://me:hunter2@host/data?token=hunter2"  # password = "hunter2"\n'
    text = title + "".join(line for line in recipe.splitlines(True) if not line.startswith("title"))
    (program.home / "toy.toml").write_text(text, encoding="utf-8")
    settings = [*TINY, "metrics=[]", "network.depth=2", "train.steps=5"]
    program.ok("distill", "toy.toml", *settings, HF_TOKEN="hf_abcdef")
    for path in (program.runs / "toy").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
            assert b"hf_abcdef" not in path.read_bytes(), path
    program.ok("distill", "--resume", "latest", "train.steps=9")
