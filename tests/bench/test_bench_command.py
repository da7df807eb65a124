"""`di4c bench`: the command, and the recipes that it must take as they come."""

import json

import pytest
import torch
from program import Program

from di4c_cli import recipe_file, shipped
from di4c_cli.bench import bench, growth

QUICK = ("--batch-sizes", "2", "--repeats", "1", "--steps", "2")
TINY = ("network.width=16", "network.depth=2", "student.num_latents=4")
TEXT = ["network.width=16", "network.heads=2", "network.depth=1", "codec.length=4"]
SMALL = {
    "owt": TEXT,
    "owt_round2": TEXT,
    "imagenet": ["network.width=16", "network.heads=2", "network.depth=1", "codec.grid=4"],
    "cifar10": [
        "network.channels=32",
        "network.blocks=1",
        "codec.height=8",
        "codec.width=8",
        "codec.levels=16",
    ],
    "digits_gaussian": ["network.width=8"],
    "toy": [],
}
LONG = dict.fromkeys(["cifar10", "owt_round2", "owt", "digits_gaussian"], pytest.mark.slow)
"""Recipes that go the same ways as others do."""
THINGS = ["teacher forward", "student forward", "teacher sampling", "student sampling"]
DENSE = ["teacher sampling, dense", "student sampling, dense"]
POSTERIOR = ["posterior step", "posterior step, dense"]
TRAINING = ["distillation step", "distillation step, dense", "losses", "losses, dense"]


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def measured(recipe, *overrides):
    """One round at batch size 2."""
    loaded = recipe_file.load(shipped.find_recipe(recipe), ["student.num_latents=2", *overrides])
    return bench(loaded, batch_sizes=[2], repeats=1, steps=2, device="cpu")


def test_the_document(program):
    outcome = program.ok("bench", "digits", *TINY, *QUICK, "--json", "--quiet", "--out", "new/bench.json")
    found = outcome.json
    assert outcome.err == ""
    assert found["device"] == "cpu"
    assert found["threads"] == 1
    assert [row["what"] for row in found["rows"]] == THINGS + DENSE + TRAINING
    for row in found["rows"]:
        assert row["batch_size"] == 2
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["peak_mb"] > row["extra_mb"] >= 0
    pairs = ["distillation step", "losses", "teacher sampling", "student sampling"]
    assert [row["what"] for row in found["ratios"]] == pairs
    assert found["roofline"]["gflop"] > 0
    assert (found["weights"], found["data"]) == ("fresh", "random")
    assert json.loads((program.home / "new" / "bench.json").read_text()) == found
    assert not program.runs.exists()


def test_the_table(program):
    outcome = program.ok("bench", "digits", *TINY, *QUICK)
    for text in (*THINGS, *TRAINING, "fresh weights and random data", "matmul rate"):
        assert text in outcome.out


@pytest.mark.parametrize("recipe", [pytest.param(n, marks=LONG.get(n, [])) for n in SMALL])
def test_recipes_without_checkpoint_and_data(monkeypatch, recipe):
    monkeypatch.delenv("DI4C_DATA", raising=False)
    found = [row["what"] for row in measured(recipe, *SMALL[recipe])["rows"]]
    assert found[: len(THINGS)] == THINGS
    assert found[-len(TRAINING) :] == TRAINING
    others = {"imagenet": [], "toy": DENSE[1:], "owt": DENSE, "owt_round2": DENSE}
    assert found[len(THINGS) : -len(TRAINING)] == others.get(recipe, DENSE + POSTERIOR)


def test_losses_without_a_dense_form_stand_alone():
    found = measured("sdtt", *TEXT)
    assert [row["what"] for row in found["rows"]] == [*THINGS, *DENSE, "distillation step", "losses"]
    assert [row["what"] for row in found["ratios"]] == ["teacher sampling", "student sampling"]
    assert found["skipped"][0]["why"] == "no dense form of the losses sdtt"


@pytest.mark.parametrize("recipe", ["digits", "digits_gaussian"])
def test_growth_is_fitted_over_every_size(monkeypatch, recipe):
    few = dict.fromkeys("LBD", (2, 4, 8))
    for name, value in (("TIMED", few), ("STATES", (8, 16, 32)), ("FEW_STATES", (8, 16, 32)), ("ROUNDS", 2)):
        monkeypatch.setattr(growth, name, value)
    fits = growth.fits(recipe_file.load(shipped.find_recipe(recipe)).recipe, torch.device("cpu"))
    assert [fit["over"] for fit in fits] == ["L", "B", "D", "S"]
    assert all(len(fit["values"]) == 3 and fit["r2"] <= 1 for fit in fits)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["digits", "--batch-sizes", "0"], "numbers begin at 1"),
        (["digits", "--out", "."], "a folder"),
        (["digits_gaussian", "network.parameterization=subs"], "teacher: parameterization 'subs'"),
        (["digits_gaussian", *TINY[2:], "losses.0.kind=sdtt", "--repeats", "1"], "losses: loss 'sdtt'"),
        (["nothing"], "no such recipe"),
    ],
)
def test_wrong_input_is_one_line(program, arguments, complaint):
    outcome = program("bench", *arguments, "--quiet")
    assert outcome.code == 2
    assert len(outcome.complaint) == 1
    assert complaint in outcome.complaint[0]
