"""`di4c convert`: whole files become folders that work at once; all else is told, and nothing written."""

import json
import os
from pathlib import Path

import pytest
import torch
from golden import expected, golden, keys, wave
from released import AVERAGED, KINDS, SHIFT, layout, release, weights_of
from safetensors.torch import load_file, save_file

from di4c_cli.conversion import our_name
from di4c_cli.core import checkpoints
from di4c_cli.core.component import config_class
from di4c_cli.core.networks.mdlm import Rotary
from di4c_cli.core.students import init_from
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
STEPS = {"mdlm": 0, "sdtt": 0, "di4c-sdtt": 70, "vqgan": 1, "tauldr": 99, "di4c-tauldr": 99}
STEPS |= {"maskgit": 30, "di4c-maskgit": 30}
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
    found, wanted, tolerance = logits, case["logits"], 1e-4
    if "tauldr" in folder:  # far out, the logits of its head depend on the rounding of the machine
        found, wanted, tolerance = found.softmax(-1), wanted.softmax(-1), 1e-5
    assert (found - wanted).abs().max() < tolerance
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
    assert header["step"] == STEPS[kind]
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
    init_from(student, teacher.state_dict())
    assert student.state_dict().keys() > teacher.state_dict().keys()


def test_a_second_round_starts_from_a_students_folder(convert, tmp_path):
    made = release("di4c-sdtt", tmp_path / "in")
    out = Path(converted(convert, made.path, "di4c-sdtt")["out"])
    recipe = resolve(str(out), []).recipe
    house = House.build(recipe, out)
    model = config_class("teachers", "mixture")().build(house.process, recipe.network, None, out)
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


# files that are not whole: all of it in tests/conversion


class Foreign:
    """A class of no package that files of weights are made of."""


class Running:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def missing(content, tmp_path):
    del weights_of(content)["bias"]


def surplus(content, tmp_path):
    weights_of(content)["extra"] = torch.zeros(1)


def misshapen(content, tmp_path):
    weights_of(content)["bias"] = torch.zeros(3)


def foreign(content, tmp_path):
    content["more"] = Foreign()


def running(content, tmp_path):
    content["more"] = Running(f"touch {tmp_path / 'ran'}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (missing, "missing: bias"),
        (surplus, "surplus: extra"),
        (misshapen, "bias (3,) for (5, 9)"),
        (foreign, "test_convert.Foreign"),
        (running, "posix.system"),
    ],
)
def test_a_refusal_is_one_line_and_writes_nothing(change, says, convert, tmp_path):
    made = release("maskgit", tmp_path / "in", lambda content: change(content, tmp_path))
    said = complaint(convert(made.path, "maskgit"), tmp_path)
    assert said.startswith(str(made.path))
    assert says in said
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


def test_a_file_cut_short(convert, tmp_path):
    made = release("maskgit", tmp_path / "in")
    made.path.write_bytes(made.path.read_bytes()[:-100])
    assert "damaged or cut short" in complaint(convert(made.path, "maskgit"), tmp_path)


@pytest.mark.parametrize("options", [["--kind", "gpt"], ["--kind", "mdlm", "--weights", "best"]])
def test_usage(options, run, tmp_path):
    result = run("convert", tmp_path / "x", "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


# full size

FULL_SIZE = {
    "tauldr": ("unet_teacher", [-5.0482197, -4.9974442, -4.9474554, -4.898283, -4.8499765]),
    "di4c-tauldr": ("unet_student", [-4.526094, -4.4910984, -4.4571576, -4.4242887, -4.3925433]),
    "maskgit": ("maskgit_teacher", [0.1325445, -0.9034257, 0.6347691, 0.4611223, -1.0097671]),
    "di4c-maskgit": ("maskgit_student", [0.1325444, -0.9034254, 0.6347687, 0.4611221, -1.0097665]),
    "mdlm": ("dit_teacher", [-0.0898913, -6.4225698, 5.006135, 2.2313232, -6.786346]),
    "sdtt": ("dit_teacher", [-0.0898913, -6.4225698, 5.006135, 2.2313232, -6.786346]),
    "di4c-sdtt": ("dit_student", [-0.0873518, -6.4206686, 5.0017662, 2.2329667, -6.7841954]),
    "vqgan": ("vqgan", [-0.021994, -0.0306188, -0.0301263, -0.0265054, -0.0231308]),
}
"""Key list, and the first numbers that the published code gives with the weights anyone can make."""
COUNTS = {"unet_teacher": 328, "unet_student": 384, "maskgit_teacher": 305, "maskgit_student": 309}
COUNTS |= {"dit_teacher": 131, "dit_student": 135, "vqgan": 343}


def full_size_file(kind, folder):
    """The released layout at the released size, without settings beside."""
    weights = {}
    for number, (name, shape) in enumerate(keys(FULL_SIZE[kind][0])):
        buffer = name == "rotary_emb.inv_freq"
        weights[our_name(name, kind)] = Rotary(64).inv_freq if buffer else wave(number, name, shape)
    content, name, _ = layout(kind, weights, [name for name in weights if "inv_freq" not in name])
    folder.mkdir()
    if kind in ("mdlm", "sdtt"):
        save_file(content, folder / name)
        return folder
    if "tauldr" in kind:  # the released sampler uses the averages: these are the ones, and the others are not
        parameters = [name for name, value in content["model"].items() if torch.is_tensor(value)]
        content["model"]["ema_shadow_params"] = [content["model"][name] for name in parameters]
        content["model"] |= {name: content["model"][name] + 1 for name in parameters}
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.slow
@pytest.mark.parametrize("kind", FULL_SIZE)
def test_released_sizes(kind, convert, tmp_path):
    """Sizes from the tensors alone, and the published numbers through the written folder."""
    name, first = FULL_SIZE[kind]
    told = converted(convert, full_size_file(kind, tmp_path / "in"), kind)
    assert told["tensors"] == COUNTS[name]
    if kind == "vqgan":
        codec = config_class("codecs", "vqgan")(checkpoint=told["out"]).build()
        with torch.no_grad():
            images = codec.model("cpu").decode((29 * torch.arange(256) % 1024).view(1, 256))
        assert torch.allclose(images.flatten()[:5], torch.tensor(first), rtol=0, atol=1e-4)
        return
    model, house = model_in(told["out"])
    x, t, label = (29 * torch.arange(512) % 1025).view(2, 256), torch.tensor([0.3, 0.8]), None
    if "tauldr" in kind:
        x = (37 * torch.arange(2 * 3072) % 256).view(2, 3072)
    elif "maskgit" in kind:
        label = torch.tensor([7, house.recipe.classes])
    else:
        x = (1601 * torch.arange(2 * 32) % 50258).view(2, 32)
        x[:, ::3] = house.process.space.mask_id
        assert house.recipe.codec.kind == "gpt2"
    lam = torch.tensor([[0.25], [0.9]]) if kind.startswith("di4c-") else None
    with torch.no_grad():
        logits = model.network(x, t, label, lam)
    logits = logits.log_softmax(-1) if "tauldr" in kind else logits
    assert torch.allclose(logits.flatten()[:5], torch.tensor(first), rtol=0, atol=2e-4)
