"""`train-codec`: from a recipe whose codec learns to a codec folder that the recipe finds."""

import json
import os
from pathlib import Path

import pytest
import torch

from di4c_cli import shipped
from di4c_cli.core import checkpoints
from di4c_cli.core.codecs import patches
from di4c_cli.core.datasets import mnist
from di4c_cli.errors import DataError

CODEC = """
[codec]
kind = "patches"
height = 8
width = 12
num_codes = 5
checkpoint = "tiny/codec"
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The recipe `tiny`: that of MNIST with patches for pixels, on 30 images made up."""
    text = shipped.recipe_paths()["mnist"].read_text(encoding="utf-8")
    before, _, rest = text.partition("[codec]")
    after = rest[rest.index("[dataset]") :]
    (tmp_path / "tiny.toml").write_text(f"{before}{CODEC}\n{after}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist.Config, "images", made_up)
    return "tiny.toml"


def made_up(config, shape):
    return torch.rand(30, *shape, generator=torch.Generator().manual_seed(0))


def test_the_codec_is_fitted_and_found(run, recipe, tmp_path):
    result = run("train-codec", recipe, "--out", tmp_path / "runs/tiny/codec", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["mse"] > 0
    assert told == {
        "out": str(tmp_path / "runs/tiny/codec"),
        "kind": "patches",
        "images": 30,
        "channels": 1,
        "patch": 4,
        "num_codes": 5,
        "mse": told["mse"],
    }
    header = checkpoints.read_config(tmp_path / "runs/tiny/codec")
    assert header["architecture"] == {"channels": 1, "patch": 4, "num_codes": 5}
    source = {"recipe": "tiny", "dataset": "mnist", "images": 30, "seed": 0, "mse": told["mse"]}
    assert header["source"] == source
    card = (tmp_path / "runs/tiny/codec/README.md").read_text()
    assert "di4c train-codec tiny" in card

    codec = patches.Config(height=8, width=12, num_codes=5, checkpoint="tiny/codec").build()
    images = made_up(None, codec.image_shape)
    tokens = codec.encode(images)
    assert sorted(tokens.unique().tolist()) == [0, 1, 2, 3, 4]
    # Of images in whole grey levels, to which the codec was fitted.
    levels = (images * 255).round() / 255
    assert (codec.decode(tokens) - levels).square().mean().item() == pytest.approx(told["mse"], rel=1e-3)


def test_a_seed_repeats_and_overrides_count(run, recipe, tmp_path):
    def book(name, *arguments):
        result = run("train-codec", recipe, "--out", name, *arguments)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines()[0].split() == ["out", name]
        return checkpoints.read_tensors(tmp_path / name, "model.safetensors")["codebook"]

    first = book("a")
    assert torch.equal(book("b"), first)
    assert not torch.equal(book("c", "--seed", 1), first)
    assert book("d", "codec.num_codes=7", "codec.patch=2").shape == (7, 1, 2, 2)


def test_an_empty_folder_is_taken(run, recipe, tmp_path):
    (tmp_path / "new").mkdir()
    assert run("train-codec", recipe, "--out", "new").exit_code == 0
    assert checkpoints.read_config(tmp_path / "new")["role"] == "codec"


# refusals: exit code 2, one line, and nothing written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist"], "mnist: its codec is pixels, there is nothing to fit"),
        (["digits"], "digits: its codec is pixels"),
        (["words"], "words: its codec is characters"),
        (["RECIPE", "dataset.kind=words"], "words gives no images"),
        (["RECIPE", "codec.num_codes=100000"], r"tiny.toml: codec: 100000 codes, but only 180 patches"),
        (["RECIPE", "codec.patch=3"], "does not divide"),
        (["nothing"], "nothing: no such recipe"),
        (["RECIPE", "--seed", "-1"], "--seed"),
    ],
)
def test_refusals(run, recipe, tmp_path, arguments, message):
    given = [recipe if argument == "RECIPE" else argument for argument in arguments]
    before = sorted(tmp_path.rglob("*"))
    result = run("train-codec", *given, "--out", "new/codec", "--quiet")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_needed(run, recipe):
    result = run("train-codec", recipe)
    assert result.exit_code == 2
    assert "--out" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("out", [".", "tiny.toml", "full", "full/file", "full/file/codec"])
def test_nothing_is_replaced(run, recipe, tmp_path, out):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    result = run("train-codec", recipe, "--out", out, "--quiet")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.removeprefix("--out ").startswith(f"{out}: ")
    assert (tmp_path / "full" / "file").read_text() == "precious"
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_data_is_told(run, recipe, tmp_path, monkeypatch):
    def gone(config, shape):
        raise DataError("train-images-idx3-ubyte.gz: missing")

    monkeypatch.setattr(mnist.Config, "images", gone)
    result = run("train-codec", recipe, "--out", "new", "--quiet")
    assert (result.exit_code, result.stderr) == (2, "train-images-idx3-ubyte.gz: missing\n")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_shipped_codebook_is_what_the_command_makes(run, tmp_path):
    if not Path(os.environ.get("DI4C_DATA", ""), "mnist").is_dir():
        pytest.skip("MNIST is not in DI4C_DATA")
    result = run("train-codec", "mnist_tokens", "--out", tmp_path / "codec", "--quiet")
    assert result.exit_code == 0, result.stderr
    shipped_one = shipped.shipped_checkpoint("mnist_tokens/codec")
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "codec" / name).read_bytes() == (shipped_one / name).read_bytes(), name
