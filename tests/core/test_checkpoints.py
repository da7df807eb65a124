"""Checkpoint folders: written whole or not at all, and read as untrusted."""

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from di4c_cli import shipped
from di4c_cli.core import checkpoints
from di4c_cli.core.checkpoint_header import FORMAT, header_text
from di4c_cli.errors import CheckpointError

CONFIG = {"recipe": {"title": "a test"}, "step": 7}


def module(value):
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(value)
    return net


def write(folder, value=1.0, **tensors):
    """A checkpoint with raw weights `value` and averaged ones a half more."""
    weights = module(value).state_dict()
    average = {name: p + 0.5 for name, p in weights.items()}
    content = {"model": weights, "ema": average, "card": "# card", **tensors}
    checkpoints.save(folder, config=CONFIG, **content)
    return folder


def values(folder, weights="ema"):
    net = module(0.0)
    checkpoints.load_weights(net, folder, weights)
    return {p.item() for q in net.parameters() for p in q.flatten()}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "step-7")


def test_what_is_written_is_read(folder):
    assert values(folder) == {1.5}
    assert values(folder, "raw") == {1.0}
    config = checkpoints.read_config(folder)
    assert config["format"] == FORMAT
    assert config["recipe"] == CONFIG["recipe"]
    assert config["step"] == 7
    assert (folder / "README.md").read_text() == "# card"
    files = {"config.json", "model.safetensors", "ema.safetensors", "README.md"}
    assert {p.name for p in folder.iterdir()} == files
    assert config["files"].keys() == {"model.safetensors", "ema.safetensors"}


def test_training_state_comes_beside(tmp_path):
    folder = write(tmp_path / "step-1", training={"exp_avg/0.weight": torch.arange(6.0).view(2, 3).T})
    state = checkpoints.read_tensors(folder, checkpoints.TRAINING)
    assert torch.equal(state["exp_avg/0.weight"], torch.arange(6.0).view(2, 3).T)


def test_weights_without_an_average_stand_for_both(tmp_path):
    folder = write(tmp_path / "converted", ema=None)
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert checkpoints.read_config(folder)["files"].keys() == {"model.safetensors"}
    assert values(folder) == values(folder, "raw") == {1.0}
    write(folder)  # and again with an average
    assert values(folder) == {1.5}
    assert values(write(folder, 3.0, ema=None)) == {3.0}  # the old average does not stay behind


def test_an_average_that_is_not_stated_is_not_read(tmp_path):
    folder = write(tmp_path / "converted", ema=None)
    other = write(tmp_path / "other", 5.0)
    (folder / "ema.safetensors").write_bytes((other / "ema.safetensors").read_bytes())
    assert values(folder) == {1.0}


# codecs

CODEC = {"role": "codec", "kind": "vqgan", "architecture": {"ch": 32}}


def test_a_codec_needs_no_recipe(tmp_path):
    tensors = {"codebook": torch.arange(6.0)}
    checkpoints.save(tmp_path / "codec", config=CODEC, model=tensors, ema=None, card="# codec")
    config = checkpoints.read_config(tmp_path / "codec")
    assert {key: config[key] for key in CODEC} == CODEC
    found = checkpoints.read_tensors(tmp_path / "codec", "model.safetensors")
    assert torch.equal(found["codebook"], tensors["codebook"])


@pytest.mark.parametrize(
    "change",
    [{"role": "teacher"}, {"kind": None}, {"kind": ["vqgan"]}, {"architecture": "large"}, {"format": None}],
)
def test_a_codec_must_state_its_kind_and_architecture(tmp_path, change):
    checkpoints.save(tmp_path / "codec", config=CODEC, model={}, ema=None, card="")
    path = tmp_path / "codec" / "config.json"
    header = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in header.items() if value is not None}))
    with pytest.raises(CheckpointError, match="not a di4c checkpoint"):
        checkpoints.read_config(path.parent)


def test_folders_are_found_by_path_then_below_the_runs_then_among_the_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "package"
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert checkpoints.find("mine/codec") is None
    in_the_package = write(package / "_shipped" / "checkpoints" / "mine" / "codec")
    assert checkpoints.find("mine/codec") == in_the_package
    below_the_runs = write(tmp_path / "runs" / "mine" / "codec")
    assert checkpoints.find("mine/codec") == below_the_runs
    here = write(tmp_path / "mine" / "codec")
    assert checkpoints.find("mine/codec").resolve() == here
    assert checkpoints.find(str(in_the_package)) == in_the_package
    assert checkpoints.find("mine") is None  # a folder, but no checkpoint


def test_a_folder_is_replaced_whole(folder):
    write(folder, 2.0)
    assert values(folder) == {2.5}
    assert [p.name for p in folder.parent.iterdir()] == ["step-7"]


# damage


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors"])
@pytest.mark.parametrize("place", [0, 9, 40, -1])
def test_one_bit_is_enough(folder, name, place):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: damaged") as error:
        values(folder, "ema" if name[0] == "e" else "raw")
    assert error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_files(folder, keep):
    path = folder / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        values(folder)


def test_missing_files(folder):
    (folder / "ema.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ema\.safetensors: missing"):
        values(folder)
    assert values(folder, "raw") == {1.0}
    with pytest.raises(CheckpointError, match=r"training\.safetensors: missing"):
        checkpoints.read_tensors(folder, checkpoints.TRAINING)


def test_nothing_of_the_header_can_change(folder):
    """Not even what leaves its content as it is: a space, a line end, the spelling of a number."""
    path = folder / "config.json"
    text = path.read_text()
    for changed in (
        text.replace('"step": 7', '"step": 8'),
        text.replace('"step": 7', '"step":  7'),
        text.replace("\n", "\r"),
        text[:-1],
        text.replace("sha256", "sha257"),
        text.replace('"format": 2', '"format": 1'),
        text.replace('"format": 2', '"format": 2, "format": 2'),
    ):
        path.write_bytes(changed.encode())
        with pytest.raises(CheckpointError, match=r"config\.json: damaged"):
            checkpoints.read_config(folder)


def test_a_header_of_format_1_has_no_hash_of_its_own(folder):
    path = folder / "config.json"
    header = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    path.write_text(json.dumps(header | {"format": 1}))
    assert values(folder) == {1.5}
    path.write_text(json.dumps(header))
    with pytest.raises(CheckpointError, match="damaged"):
        values(folder)


def test_a_header_of_any_length_is_not_read(folder):
    (folder / "config.json").write_bytes(b" " * (2**24 + 1))
    with pytest.raises(CheckpointError, match="cannot be read: longer than"):
        values(folder)


# another network's weights, whole and with the right hashes


def altered(name, change):
    weights = module(1.0).state_dict()
    change(weights)
    return {name: weights}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.weight"), r"missing: 0\.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "surplus: extra"),
        (lambda w: w.update({"0.weight": torch.zeros(3, 2)}), r"0\.weight \(3, 2\) for \(2, 3\)"),
        (lambda w: w.update({"0.bias": torch.zeros(())}), r"0\.bias \(\) for \(2,\)"),
    ],
)
def test_tensors_must_be_exactly_the_networks(tmp_path, change, message):
    folder = write(tmp_path / "other", **altered("ema", change))
    net = module(0.0)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load_weights(net, folder)
    assert all((p == 0).all() for p in net.parameters())  # nothing was filled in


def test_long_differences_are_cut_short(tmp_path):
    many = {f"layer{i}": torch.zeros(1) for i in range(50)}
    folder = write(tmp_path / "other", ema=many)
    with pytest.raises(CheckpointError) as error:
        values(folder)
    assert len(str(error.value)) < 400 + len(str(folder))
    assert "\n" not in str(error.value)


# folders that are not ours


def restate(folder, name):
    """config.json made to agree with whatever lies under that name."""
    config = json.loads((folder / "config.json").read_text())
    config["files"][name] = checkpoints._sha256(folder / name)
    (folder / "config.json").write_text(header_text(config))


def test_a_pickle_by_another_name_is_not_opened(folder, tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    for content in (pickle.dumps(Payload()), b"PK\x03\x04 a zip", b"", b"\xff" * 64):
        (folder / "ema.safetensors").write_bytes(content)
        restate(folder, "ema.safetensors")
        with pytest.raises(CheckpointError, match="cannot be read"):
            values(folder)
    torch.save(module(1.0).state_dict(), folder / "ema.safetensors")
    restate(folder, "ema.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        values(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no checkpoint here"),
        ("", "cannot be read"),
        ('{"format": 1, "recipe": {', "cannot be read"),
        pytest.param("[" * 100_000, "cannot be read", id="deep"),
        ("\udcff\x00", "cannot be read"),
        ("[1, 2]", "not a di4c checkpoint"),
        ('{"architectures": ["BertModel"], "model_type": "bert"}', "not a di4c checkpoint"),
        ('{"format": 1, "recipe": "digits"}', "not a di4c checkpoint"),
        ('{"format": 3, "recipe": {}}', "format 3"),
        ('{"format": 1, "recipe": {}}', "damaged"),
        ('{"format": 1, "recipe": {}, "files": ["ema.safetensors"]}', "damaged"),
        ('{"format": 1, "recipe": {}, "files": 5}', "damaged"),
        ('{"format": 1, "role": "codec"}', "not a di4c checkpoint"),
    ],
)
def test_foreign_folders(folder, content, message):
    path = folder / "config.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=message) as error:
        values(folder)
    assert str(folder) in error.value.message
    assert "\n" not in str(error.value)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for path in (tmp_path / "nothing", tmp_path / "file", tmp_path):
        with pytest.raises(CheckpointError):
            checkpoints.read_config(path)


# a full disk


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_written(tensors, path, metadata=None):
    """As safetensors does it: some bytes, then its own error."""
    Path(path).write_bytes(b"half")
    if Path(path).name == "ema.safetensors":
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def fail_in_safetensors(monkeypatch):
    monkeypatch.setattr(checkpoints, "save_file", half_written)


def fail_in_the_card(monkeypatch):
    write_text = Path.write_text

    def write_all_but_the_card(path, *args, **kwargs):
        return full() if path.name == "README.md" else write_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", write_all_but_the_card)


def fail_in_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", full)


def fail_in_mkdir(monkeypatch):
    monkeypatch.setattr(Path, "mkdir", full)


FAILURES = [fail_in_safetensors, fail_in_the_card, fail_in_fsync, fail_in_mkdir]


@pytest.mark.parametrize("fail", FAILURES)
@pytest.mark.parametrize("name", ["step-7", "step-8"])
def test_a_full_disk_leaves_nothing_and_takes_nothing(folder, monkeypatch, fail, name):
    with monkeypatch.context() as patch:
        fail(patch)
        with pytest.raises(OSError, match=r"[Nn]o space left"):
            write(folder.with_name(name), 2.0)
    assert [p.name for p in folder.parent.iterdir()] == ["step-7"]
    assert values(folder) == {1.5}
    assert values(write(folder.with_name(name), 2.0)) == {2.5}  # with room it goes through


def test_what_a_killed_writer_left_is_cleared(folder):
    left = folder.with_name("step-8.tmp")
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert values(write(folder.with_name("step-8"), 2.0)) == {2.5}
    assert not left.exists()
