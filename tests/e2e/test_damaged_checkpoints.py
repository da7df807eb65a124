"""Checkpoints that are damaged, foreign or of another network: refused in a line, and nothing is written."""

import json
import shutil

import pytest
import torch
from program import TINY, TINY_TEACHER
from refusal import refused
from safetensors.torch import save_file

from di4c_cli.core.checkpoint_header import header_text
from di4c_cli.core.checkpoints import _sha256


@pytest.fixture
def checkpoint(digits, tmp_path):
    """A copy of a finished student, to be damaged."""
    return shutil.copytree(digits.runs / "digits/student-1/final", tmp_path / "copy")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def pickle(path):
    torch.save({"weight": torch.zeros(3)}, path)


def pickle_with_its_hash(path):
    """What somebody who edits config.json too could hand over."""
    pickle(path)
    config = path.with_name("config.json")
    header = json.loads(config.read_text(encoding="utf-8"))
    header["files"][path.name] = _sha256(path)
    config.write_text(header_text(header), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip_a_bit, "damaged"),
        (truncate, "damaged"),
        (pickle, "damaged"),
        (pickle_with_its_hash, "cannot be read"),
        (lambda path: path.unlink(), "missing"),
    ],
    ids=["bit flip", "truncation", "pickle", "pickle with its hash", "missing"],
)
def test_damaged_weights(beside, checkpoint, damage, told):
    damage(checkpoint / "ema.safetensors")
    for command in ("sample", "eval"):
        (complaint,) = refused(beside, command, checkpoint)
        assert f"{checkpoint}/ema.safetensors: {told}" in complaint


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "config.json: cannot be read"),
        ('{"model_type": "bert"}', "config.json: not a di4c checkpoint (released files of other projects"),
        ('{"format": 99, "recipe": {}}', "config.json: format 99, this program reads 2 (update di4c)"),
        ('{"format": 1, "recipe": {}, "role": "student"}', "config.json: codec: is missing"),
    ],
)
def test_foreign_headers(beside, checkpoint, content, told):
    (checkpoint / "config.json").write_text(content, encoding="utf-8")
    assert any(told in line for line in refused(beside, "sample", checkpoint))


def test_a_pickle_alone_is_no_checkpoint(program):
    torch.save({"weight": torch.zeros(3)}, program.home / "model.pt")
    (complaint,) = refused(program, "sample", "model.pt")
    assert "model.pt: " in complaint


def test_weights_of_another_network(beside, checkpoint):
    """Tensors in order, but of other names and shapes; then a teacher of another width."""
    path = checkpoint / "ema.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    header = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    header["files"][path.name] = _sha256(path)
    (checkpoint / "config.json").write_text(header_text(header), encoding="utf-8")
    (complaint,) = refused(beside, "sample", checkpoint)
    assert f"{path}: made for another network; missing: network." in complaint
    assert "surplus: weight" in complaint
    other = [*TINY, "network.width=24", "--teacher", "digits/teacher-1"]
    (complaint,) = refused(beside, "distill", "digits", *other)
    assert "teacher-1/final/ema.safetensors: made for another network; of another shape" in complaint


def test_a_damaged_checkpoint_is_not_resumed_from_but_the_one_before(program):
    settings = [*TINY_TEACHER, "teacher.train.save_every=10"]
    program.ok("train-teacher", "digits", *settings)
    run = program.runs / "digits/teacher-1"
    longer = ["train-teacher", "--resume", "latest", "teacher.train.steps=50", "teacher.train.keep=3"]
    for damaged in ("step-40/training.safetensors", "step-30/config.json"):
        flip_a_bit(run / damaged)
    (complaint,) = refused(program, *longer, "--quiet")
    assert "step-40/training.safetensors: damaged" in complaint
    flip_a_bit(run / "step-30/config.json")  # which is whole again
    said = program.ok(*longer).err
    for told in (said, (run / "log.txt").read_text()):
        assert f"warning: {run}/step-40/training.safetensors: damaged" in told
        assert "set aside as step-40.damaged" in told
        assert "resuming digits/teacher-1 at step 30" in told
    assert (run / "latest").read_text() == "final\n"
    names = {path.name for path in run.iterdir() if path.is_dir()}
    assert names == {"step-30", "step-40", "step-40.damaged", "step-50", "final", "samples"}


BAD_SECTOR = """
import errno, hashlib
digest = hashlib.file_digest
def file_digest(file, name):
    if file.name.endswith("step-40/{file}"):
        raise OSError(errno.EIO, "Input/output error")
    return digest(file, name)
hashlib.file_digest = file_digest
"""


@pytest.mark.parametrize("file", ["model.safetensors", "training.safetensors"])
def test_a_checkpoint_on_a_bad_sector_is_passed_over(program, file):
    settings = [*TINY, "network.depth=2", "metrics=[]", "train.save_every=10", "train.steps=40"]
    program.ok("distill", "toy", *settings)
    longer = ["distill", "--resume", "latest", "train.steps=60"]
    outcome = program(*longer, prelude=BAD_SECTOR.format(file=file))
    assert outcome.code == 0, outcome.err
    assert f"step-40/{file}: cannot be read: [Errno 5] Input/output error; set aside" in outcome.err
    assert "resuming toy/student-1 at step 30" in outcome.err
