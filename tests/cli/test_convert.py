"""`di4c convert`: whole files become folders that work at once; anything else is told, and nothing written."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from golden import expected, golden
from released import AVERAGED, KINDS, SHIFT, network_of, release, weights_of
from safetensors.torch import load_file

from di4c_cli.core import checkpoints
from di4c_cli.core.component import config_class
from di4c_cli.sources import House, load_models, resolve

GOLDEN = {
    "mdlm-owt": ("mdlm", "", 31),
    "sdtt": ("sdtt", "", 31),
    "maskgit": ("maskgit", "MaskGIT_ImageNet_256.pth", 41),
    "vqgan": ("vqgan", "last.ckpt", 183),
    "tauldr": ("tauldr", "ckpt_0001999999.pt", 182),
    "sony-tauldr": ("di4c-tauldr", "tldr-di4c.pt", 216),
    "sony-maskgit": ("di4c-maskgit", "maskgit-di4c-d.pth", 45),
    "sony-sdtt": ("di4c-sdtt", "sdtt7-di4c2.ckpt", 35),
}
"""Folder -> kind, file (none: a Hugging Face folder), tensors."""
MODELS = [kind for kind in KINDS if kind != "vqgan"]


@pytest.fixture
def convert(run, tmp_path):
    """Convert into a folder of that name, in this process."""

    def convert(path, kind, out="out", *options):
        return run("convert", path, "--kind", kind, "--out", tmp_path / out, "--json", *options)

    return convert


def converted(convert, path, kind, *options, out="out"):
    result = convert(path, kind, out, *options)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def tensors(out, kind):
    """The written tensors by our names."""
    prefix = "" if kind == "vqgan" else "network."
    written = load_file(Path(out) / "model.safetensors")
    assert all(name.startswith(prefix) for name in written)
    return {name.removeprefix(prefix): value for name, value in written.items()}


def model_in(out):
    """The denoiser of a folder, as `di4c sample` loads it."""
    source = resolve(str(out), [])
    house = House.build(source.recipe, source.path)
    models = load_models(source, house, torch.device("cpu"), needed={source.role})
    return models.student if source.role == "student" else models.teacher, house


def complaint(result, path):
    """The one line of a refusal; nothing has been written."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert not [p.name for p in path.iterdir() if p.name.startswith((".out", "out"))]
    return result.stderr


# whole files


@pytest.mark.parametrize("folder", GOLDEN)
def test_small_release_gives_the_published_outputs(folder, convert):
    """Inputs and outputs of the published code, through the written folder."""
    kind, name, count = GOLDEN[folder]
    told = converted(convert, golden(folder) / name, kind)
    assert told["kind"] == kind
    assert told["tensors"] == count
    assert told["parameters"] == sum(p.numel() for p in tensors(told["out"], kind).values())
    case = expected(folder)
    if kind == "vqgan":
        codec = config_class("codecs", "vqgan")(checkpoint=told["out"], num_codes=64, grid=8, size=32).build()
        codes = codec.encode((case["images"] + 1) / 2)
        assert torch.equal(codes, case["codes_of_images"].flatten(1))
        with torch.no_grad():
            images = codec.model("cpu").decode(case["codes"].flatten(1))
        assert (images - case["decoded"]).abs().max() < 1e-4
        return
    model, house = model_in(told["out"])
    x = next(case[key] for key in ("input_ids", "tokens", "x") if key in case).flatten(1)
    t = case.get("t", torch.zeros(len(x)))
    label = None
    if "labels" in case:
        label = case["labels"].masked_fill(case["drop"], house.recipe.classes)
    lam = case["lam"][:, None] if "lam" in case else None
    with torch.no_grad():
        logits = model.network(x, t, label, lam)[:, 0]
    assert (logits - case["logits"]).abs().max() < 1e-4
    if "rate_base" in case:
        assert (house.process.rate_base - case["rate_base"]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_arrives(kind, convert, tmp_path):
    made = release(kind, tmp_path / "in")
    told = converted(convert, made.path, kind)
    shift = {name: SHIFT if kind in AVERAGED[:2] and name in made.parameters else 0 for name in made.network}
    found = tensors(told["out"], kind)
    assert found.keys() == made.network.keys()
    assert all(torch.equal(found[name], value + shift[name]) for name, value in made.network.items())
    assert told["tensors"] == len(made.network)
    assert told["parameters"] == sum(value.numel() for value in made.network.values())
    header = checkpoints.read_config(Path(told["out"]))
    assert header["step"] == {"m": 30, "v": 1, "t": 99, "d": 70}[kind[0]] or kind.startswith(("di4c", "mdlm"))
    assert header["source"]["kind"] == kind
    assert header["source"]["file"] == made.file.name
    assert str(tmp_path) not in json.dumps(header)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_asked_for(kind, convert, tmp_path):
    made = release(kind, tmp_path / "in")
    raw = converted(convert, made.path, kind, "--weights", "raw", out="raw")
    assert raw["weights"] == "raw"
    assert all(torch.equal(tensors(raw["out"], kind)[name], value) for name, value in made.network.items())
    if kind not in AVERAGED:
        result = convert(made.path, kind, "out", "--weights", "ema")
        assert "holds no averaged weights" in complaint(result, tmp_path)
        return
    ema = converted(convert, made.path, kind, "--weights", "ema", out="ema")
    found = tensors(ema["out"], kind)
    for name, value in made.network.items():
        assert torch.equal(found[name], value + (SHIFT if name in made.parameters else 0)), name


@pytest.mark.parametrize("kind", MODELS)
def test_the_folder_samples_at_once(kind, convert, run, tmp_path):
    made = release(kind, tmp_path / "in")
    out = converted(convert, made.path, kind)["out"]
    target = tmp_path / "samples"
    options = ["--steps", 2, "--num", 2, "--format", "npz", "--out", target, "--json"]
    result = run("sample", out, *options)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["model"] == ("student" if kind.startswith("di4c-") else "teacher")
    assert Path(told["files"][0]).is_file()


@pytest.mark.parametrize("kind", ["mdlm", "maskgit", "tauldr"])
def test_the_folder_is_a_teacher(kind, convert, tmp_path):
    """Its weights are those that a student of the same recipe starts from."""
    made = release(kind, tmp_path / "in")
    out = Path(converted(convert, made.path, kind)["out"])
    recipe = resolve(str(out), []).recipe
    house = House.build(recipe, out)
    teacher = recipe.teacher.build(house.process, recipe.network, None, out)
    student = recipe.student.build(recipe.network, house.process)
    from di4c_cli.core.students import init_from

    init_from(student, teacher.state_dict())
    assert student.state_dict().keys() > teacher.state_dict().keys()


def test_a_second_round_starts_from_a_students_folder(convert, tmp_path):
    made = release("di4c-sdtt", tmp_path / "in")
    out = Path(converted(convert, made.path, "di4c-sdtt")["out"])
    source = resolve(str(out), ["teacher={kind='mixture'}", "teacher.times=null"])
    house = House.build(source.recipe, out)
    model = config_class("teachers", "mixture")().build(house.process, source.recipe.network, None, out)
    assert torch.equal(
        model.state_dict()["network.lam_projection.0.weight"], made.network["lam_projection.0.weight"]
    )


def test_for_people(run, tmp_path):
    made = release("maskgit", tmp_path / "in")
    result = run("convert", made.path, "--kind", "maskgit", "--out", tmp_path / "new" / "out")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'new' / 'out'}\n"
    assert "29 tensors, 1,037 parameters, raw weights" in result.stderr
    assert "assumed codes = 4" in result.stderr
    card = (tmp_path / "new" / "out" / "README.md").read_text()
    assert "MaskGIT.pth" in card
    assert "- classes: 3" in card


def test_help_names_every_kind(run):
    result = run("convert", "--help", env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == 0
    assert all(kind in result.stdout for kind in KINDS)


def test_kinds_of_the_option_are_those_that_exist():
    from di4c_cli.cli.convert import Kind
    from di4c_cli.conversion import KINDS as known

    assert set(Kind.__args__) == set(known) == set(KINDS)


# where it is written


def test_a_folder_with_something_in_it_is_left_alone(run, tmp_path):
    made = release("maskgit", tmp_path / "in")
    out = tmp_path / "there"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    result = run("convert", made.path, "--kind", "maskgit", "--out", out)
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_a_place(run, tmp_path):
    made = release("maskgit", tmp_path / "in")
    out = tmp_path / "there"
    out.mkdir()
    (tmp_path / "there.tmp").mkdir()  # somebody else's
    assert run("convert", made.path, "--kind", "maskgit", "--out", out).exit_code == 0
    assert {p.name for p in out.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert {p.name for p in tmp_path.iterdir()} == {"in", "there", "there.tmp"}


def test_a_place_that_cannot_be(run, tmp_path):
    made = release("maskgit", tmp_path / "in")
    (tmp_path / "file").write_text("")
    result = run("convert", made.path, "--kind", "maskgit", "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_an_interruption_leaves_nothing(monkeypatch, tmp_path):
    from di4c_cli import conversion

    made = release("maskgit", tmp_path / "in")

    def interrupt(folder, **content):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion.checkpoints, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        conversion.convert(str(made.path), "maskgit", tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


