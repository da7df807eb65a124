"""Torch files are read without running anything, and without believing their sizes."""

import builtins
import collections
import io
import os
import pickle
import subprocess
import sys
import types
import typing
import warnings
import zipfile

import pytest
import torch
from released import release

from di4c_cli.conversion._pickles import read_pickle

WEIGHT = "last_layer.4.bias"
"""Of the MaskGIT in `released`: 8 numbers."""


class Foreign:
    def __init__(self, value):
        self.value = value


class Calling:
    """An object whose pickle calls something."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def in_place_of_weights(content, value):
    content["model_state_dict"][WEIGHT] = value


def beside_weights(content, value):
    content["hyper_parameters"] = {"note": value}


@pytest.mark.parametrize("place", [in_place_of_weights, beside_weights])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda mark: Foreign(1), "test_pickles.Foreign"),
        (lambda mark: Calling(subprocess.call, ["touch", str(mark)]), ".call"),  # under its name of Python 2
        (lambda mark: Calling(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval"),
        (lambda mark: Calling(open, str(mark), "w"), "io.open"),
        (lambda mark: Calling(getattr, "x", "upper"), "builtins.getattr"),
        (lambda mark: Calling(torch.load, "x"), "torch.serialization.load"),
    ],
)
def test_foreign_objects_are_refused_by_name(place, make, says, refused, tmp_path):
    mark = tmp_path / "ran"
    made = release("maskgit", tmp_path / "in", lambda content: place(content, make(mark)))
    said = refused(made.path, "maskgit")
    assert says in said
    assert "could run code" in said
    assert not mark.exists()


@pytest.mark.parametrize(("module", "name"), [(builtins, "typed"), (typing, "Anything"), (os, "Settings")])
def test_packages_of_settings_are_known_by_their_whole_name(module, name, refused, monkeypatch, tmp_path):
    made = type(name, (Foreign,), {"__module__": module.__name__})
    with monkeypatch.context() as patched:
        patched.setattr(module, name, made, raising=False)
        file = release("maskgit", tmp_path / "in", lambda content: beside_weights(content, made(1)))
    assert f"{module.__name__}.{name}" in refused(file.path, "maskgit")


class Settings(dict):
    """In the place of an AttributeDict."""


def settings_of_training():
    """What files of Lightning hold beside weights, of modules that exist only while it is made."""
    modules = {
        "omegaconf.dictconfig": ["DictConfig"],
        "omegaconf.base": ["ContainerMetadata"],
        "pytorch_lightning.callbacks.model_checkpoint": ["ModelCheckpoint"],
        "pytorch_lightning.utilities.parsing": ["AttributeDict"],
        "transformers.models.gpt2": ["GPT2TokenizerFast"],
    }
    made = {}
    for module, names in modules.items():
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            sys.modules.setdefault(name, types.ModuleType(name))
        for name in names:
            base = Settings if name == "AttributeDict" else Foreign
            made[name] = type(name, (base,), {"__module__": module})
            setattr(sys.modules[module], name, made[name])
    config = made["DictConfig"](
        {"_content": {"lr": 1e-4}, "_metadata": made["ContainerMetadata"](typing.Any)}
    )
    types_of = collections.defaultdict(dict, {"a": {"b": [dict, int, object]}})
    return {
        "callbacks": {made["ModelCheckpoint"]: {"best": torch.ones(2)}},
        "hyper_parameters": made["AttributeDict"](config=config, types=types_of),
        "tokenizer": made["GPT2TokenizerFast"](collections.OrderedDict(a=1)),
    }


@pytest.fixture
def lightning(tmp_path, monkeypatch):
    """A Lightning file whose settings are objects of packages that are not here to read it."""
    with monkeypatch.context() as patched:
        for name in list(sys.modules):
            if name.partition(".")[0] in ("omegaconf", "pytorch_lightning", "transformers"):
                patched.delitem(sys.modules, name)
        before = set(sys.modules)
        made = release("di4c-sdtt", tmp_path / "in", lambda content: content.update(settings_of_training()))
        for name in set(sys.modules) - before:
            del sys.modules[name]
    return made


def test_settings_of_training_are_left_out(lightning, convert):
    told = convert(lightning.path, "di4c-sdtt")
    assert told["tensors"] == len(lightning.network)
    content = read_pickle(lightning.path)
    assert type(content["tokenizer"]).__name__ == "Inert"
    assert vars(content["tokenizer"]) == {}
    assert isinstance(content["hyper_parameters"], dict)


def test_settings_are_no_weights(refused, lightning, tmp_path):
    """A stand-in where a tensor should be."""
    sys.modules["omegaconf"] = types.ModuleType("omegaconf")
    sys.modules["omegaconf"].Foreign = type("Foreign", (Foreign,), {"__module__": "omegaconf"})
    try:
        fake = sys.modules["omegaconf"].Foreign(1)
        made = release("maskgit", tmp_path / "other", lambda content: in_place_of_weights(content, fake))
    finally:
        del sys.modules["omegaconf"]
    assert f"{WEIGHT} is no plain tensor" in refused(made.path, "maskgit")


@pytest.mark.parametrize(
    "value", [None, 1.0, [1.0] * 8, torch.ones(8).to_sparse(), torch.ones(8, device="meta"), "x" * 8]
)
def test_weights_are_plain_tensors(value, refused, tmp_path):
    made = release("maskgit", tmp_path / "in", lambda content: in_place_of_weights(content, value))
    assert f"{WEIGHT} is no plain tensor" in refused(made.path, "maskgit")


def test_other_precisions_become_float32(convert, tmp_path):
    from safetensors.torch import load_file

    def halve(content):
        content["model_state_dict"] = {k: v.bfloat16() for k, v in content["model_state_dict"].items()}

    made = release("maskgit", tmp_path / "in", halve)
    written = load_file(f"{convert(made.path, 'maskgit')['out']}/model.safetensors")
    own = made.network[WEIGHT]
    assert written[f"network.{WEIGHT}"].dtype == torch.float32
    assert torch.equal(written[f"network.{WEIGHT}"], own.bfloat16().float())


# sizes that are not there


def test_one_number_that_claims_to_be_many(refused, tmp_path):
    def widen(content):
        for name, value in content["model_state_dict"].items():
            content["model_state_dict"][name] = torch.zeros(1).expand(value.shape)

    made = release("maskgit", tmp_path / "in", widen)
    assert "claims more numbers than the file has" in refused(made.path, "maskgit")


def test_tensors_on_top_of_each_other(refused, tmp_path):
    everything = torch.zeros(70_000)

    def overlay(content):
        state = content["model_state_dict"]
        state |= {name: everything[: value.numel()].view(value.shape) for name, value in state.items()}
        state["latent_projection.2.weight"] = everything.view(2, -1)
        state["extra"] = everything.view(4, -1)

    made = release("maskgit", tmp_path / "in", overlay)
    assert "bytes, more than the file has" in refused(made.path, "maskgit")


def records(path):
    with zipfile.ZipFile(path) as file:
        return {info.filename: file.read(info) for info in file.infolist()}


def rewrite(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in content.items():
            file.writestr(name, data)


@pytest.mark.parametrize("claimed", [2**20, 2**31 - 1])
def test_storage_that_ends_behind_the_file(claimed, refused, tmp_path):
    """The pickle's own figure of 777 numbers made larger, in the storage and in the shape."""
    made = release("maskgit", tmp_path / "in", lambda content: in_place_of_weights(content, torch.zeros(777)))
    content = records(made.path)
    name = next(name for name in content if name.endswith("data.pkl"))
    small, large = b"M" + (777).to_bytes(2, "little"), b"J" + claimed.to_bytes(4, "little")
    assert content[name].count(small) == 2
    content[name] = content[name].replace(small, large)
    rewrite(made.path, content)
    said = refused(made.path, "maskgit")
    assert "cannot be read" in said or "claims more" in said


def test_compressed_files(refused, tmp_path):
    """A zip bomb would be one."""
    made = release("maskgit", tmp_path / "in")
    rewrite(made.path, records(made.path), zipfile.ZIP_DEFLATED)
    assert "a compressed zip file" in refused(made.path, "maskgit")


# other formats


def test_a_rewritten_file_is_read(convert, tmp_path):
    """As a check of `rewrite`."""
    made = release("maskgit", tmp_path / "in")
    rewrite(made.path, records(made.path))
    assert convert(made.path, "maskgit")["tensors"] == len(made.network)


@pytest.mark.parametrize(
    "write",
    [
        lambda content, file: torch.save(content, file, _use_new_zipfile_serialization=False),
        lambda content, file: pickle.dump({"model_state_dict": {}}, file),
        lambda content, file: file.write(b"x" * 257 + b"ustar" + b"x" * 300),
    ],
)
def test_old_formats(write, refused, tmp_path):
    made = release("maskgit", tmp_path / "in")
    with open(made.path, "wb") as file:
        write({"model_state_dict": made.network}, file)
    assert "a torch file of before version 1.6" in refused(made.path, "maskgit")


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_pickles_of_another_protocol_do_not_crash(protocol, refused, tmp_path, recwarn):
    path = tmp_path / "in.pth"
    torch.save({"model_state_dict": {"a": torch.zeros(2)}}, path, pickle_protocol=protocol)
    assert str(path) in refused(path, "maskgit")
    assert not recwarn.list


def test_other_zip_files(refused, tmp_path):
    path = tmp_path / "in.pth"
    rewrite(path, {"hello.txt": b"hello"})
    assert "cannot be read" in refused(path, "maskgit")
    script = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    path.write_bytes(script.getvalue())
    assert str(path) in refused(path, "maskgit")


@pytest.mark.parametrize("content", [None, [1, 2], {}, torch.zeros(3), {"model_state_dict": [1]}, {1: 2}])
def test_files_without_a_table_of_tensors(content, refused, tmp_path):
    path = tmp_path / "in.pth"
    torch.save(content, path)
    assert "holds no table" in refused(path, "maskgit")


def test_a_bare_state_dict_will_do(convert, tmp_path):
    made = release("maskgit", tmp_path / "in", lambda content: content["model_state_dict"])
    assert convert(made.path, "maskgit")["tensors"] == len(made.network)


def test_names_that_are_none(refused, tmp_path):
    def change(content):
        content["model_state_dict"][7] = torch.zeros(2)

    assert "has the name 7" in refused(release("maskgit", tmp_path / "in", change).path, "maskgit")


def test_one_name_twice(refused, tmp_path):
    def change(content):
        content["model_state_dict"][f"module.{WEIGHT}"] = torch.zeros(8)

    said = refused(release("maskgit", tmp_path / "in", change).path, "maskgit")
    assert f"{WEIGHT} is there twice" in said


def test_our_names_are_not_released_ones(refused, tmp_path):
    def change(content):
        state = content["model_state_dict"]
        state["lam_projection.0.bias"] = state.pop("latent_projection.0.bias")

    said = refused(release("di4c-maskgit", tmp_path / "in", change).path, "di4c-maskgit")
    assert "missing: latent_projection.0.bias" in said
    assert "surplus: lam_projection.0.bias" in said
