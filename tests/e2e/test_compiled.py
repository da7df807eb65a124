"""Compiled networks, in a program of its own: instrumented tests cannot be compiled."""

import json

import pytest
import torch
from program import Program
from safetensors.torch import load_file

SHORT = ["train.steps=4", "preview.every=0", "metrics=[]", "--json"]


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def weights_of(program, made):
    return load_file(program.home / made["checkpoint"] / "model.safetensors")


@pytest.mark.slow
def test_compiled_networks_train_and_sample_alike(program):
    plain = program.ok("distill", "toy", *SHORT, "--name", "plain").json
    compiled = program.ok("distill", "toy", *SHORT, "train.compile=true", "--name", "compiled")
    if "cannot compile" in compiled.err:
        pytest.skip("no compiler on this machine")
    ours, theirs = (weights_of(program, made) for made in (plain, compiled.json))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    drawn = [
        program.ok(
            "sample", plain["run"], "--steps", "2", "--num", "8", "--format", "npz", "--json", *how
        ).json
        for how in ([], ["sampler.compile=true", "--out", "compiled"])
    ]
    assert json.dumps(drawn[0]["nfe"]) == json.dumps(drawn[1]["nfe"])
