"""The recipes of the paper's systems, each with a small network on a little data: every key is in use."""

import os
from pathlib import Path

import pytest
from program import Program

FEW = [
    *("train.steps=2", "train.log_every=1", "student.num_latents=2", "preview.num=1", "preview.steps=[1]"),
    *("eval.num=4", "eval.steps=[1,2]", "eval.batch_size=4", "metrics=[]", "--json"),
]
FEW_TEACHER = ["teacher.train.steps=2", "teacher.train.batch_size=4", "preview.num=1", "preview.steps=[1]"]


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def data(folder):
    root = os.environ.get("DI4C_DATA", "")
    if not Path(root, folder).is_dir():
        pytest.skip(f"{folder} is not in DI4C_DATA")
    return {"DI4C_DATA": root}


def distilled(program, recipe, own, *, latents=2, **environment):
    """Teacher, dry run, two steps of distillation, samples; then the same with the reference's defects."""
    small = ["teacher.checkpoint=null", *own]
    program.ok("train-teacher", recipe, *small, *FEW_TEACHER, **environment)
    facts = program.ok("distill", recipe, *small, "--dry-run", "--json", **environment).json
    assert facts["memory_mb"] > facts["weights_mb"] > 0
    assert facts["effective_batch"] >= facts["rows_at_once"] / facts["num_latents"]
    for parity in ("false", "true"):
        made = program.ok("distill", recipe, *small, *FEW, f"parity={parity}", **environment).json
        assert made["step"] == 2
        assert {"loss/marginal", "loss/datapoint"} <= made["final"].keys()
    sampled = program.ok("sample", recipe, "--steps", "2", "--num", "2", "--format", "npz", **environment)
    assert Path(program.home / "samples").is_dir()
    return made, sampled


@pytest.mark.slow
def test_cifar10(program):
    small = [
        *("codec.height=8", "codec.width=8", "dataset.source=lossless4k", "network.channels=8"),
        *("network.multipliers=[1,2]", "network.blocks=1", "network.features=8"),
    ]
    made, _ = distilled(program, "cifar10", small, **data("cifar10-lossless4k"))
    assert {"loss/distillation", "loss/consistency"} <= made["final"].keys()


def test_imagenet(program, tmp_path):
    from PIL import Image

    for number in range(12):
        folder = tmp_path / "pictures" / f"class-{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12 + number, 10), (20 * number, 100, 200)).save(folder / f"{number}.png")
    small = [
        *("codec.kind=pixels", "codec.checkpoint=null", "codec.height=4", "codec.width=4"),
        *("codec.channels=3", "codec.levels=16", f"dataset.path={tmp_path}/pictures", "dataset.held_out=0.3"),
        *("classes=3", "network.width=16", "network.depth=1", "network.heads=2", "network.hidden=16"),
    ]
    _, sampled = distilled(program, "imagenet", small)
    assert "samples" in sampled.out


def text_of(tmp_path):
    (tmp_path / "text.txt").write_text("It is a truth universally acknowledged. " * 120)
    return [
        *("codec.length=24", "dataset.kind=text", f"dataset.path={tmp_path}/text.txt", "dataset.wrap=true"),
        *("network.width=16", "network.depth=1", "network.heads=2", "network.cond=8"),
    ]


@pytest.mark.slow
def test_owt_its_second_round_and_sdtt(program, tmp_path):
    environment = data("gpt2-bpe")
    small = text_of(tmp_path)
    distilled(program, "owt", small, **environment)
    second = program.ok("distill", "owt_round2", *small, *FEW, **environment).json
    assert second["step"] == 2
    rounds = program.ok(
        "distill", "sdtt", *small, "teacher.checkpoint=owt/teacher-1", *FEW, "train.batch_size=4",
        "train.accumulate=1", "train.promote_every=1", "times.doubling=1", **environment,
    )  # fmt: skip
    assert "loss/sdtt" in rounds.json["final"]
    log = (program.runs / "sdtt" / "student-1" / "log.txt").read_text()
    assert log.count("the student is the teacher from here on") == 2
    # what SDTT made can be distilled: a product student is a teacher
    program.ok("distill", "owt", *small, *FEW, "--teacher", "sdtt/student-1", **environment)
    prompt = program.ok(
        "sample", "owt", "--prefix", "It is", "--num", "2", "--steps", "3", "--format", "txt", "--out", "p",
        **environment,
    )  # fmt: skip
    assert "p" in prompt.out
    lines = (program.home / "p" / "samples.txt").read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("It is") for line in lines)


@pytest.mark.slow  # tests/test_recipes.py has a windowed student of running text
@pytest.mark.parametrize("recipe", ["owt_windowed", "novels"])
def test_windows_of_gpt2_tokens(program, tmp_path, recipe):
    small = [*text_of(tmp_path), "dataset.test_path=null", "dataset.held_out=0.3"]
    small += ["student.components=8", "student.rank=4", "student.start_windows=1000"]
    made, _ = distilled(program, recipe, small, **data("gpt2-bpe"))
    card = (Path(made["checkpoint"]) / "README.md").read_text()
    assert "one discrete component for each window" in card
    assert "rank 4" in card


def test_a_codec_without_weights_is_found_before_there_is_a_run(program, tmp_path):
    """Not at the first preview, thousands of steps later: here the tokens came from a cache."""
    prelude = """
import torch
from di4c_cli.core.codecs.vqgan import VQGANCodec
VQGANCodec.encode = lambda codec, images: torch.zeros(len(images), codec.space.num_dims, dtype=torch.int64)
"""
    from PIL import Image

    for number in range(8):
        folder = tmp_path / "pictures" / f"class-{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (20 * number, 100, 200)).save(folder / f"{number}.png")
    small = [
        *("codec.grid=2", "codec.size=32", "codec.num_codes=8", f"dataset.path={tmp_path}/pictures"),
        *("dataset.held_out=0.3", "classes=2", "network.width=16", "network.depth=1", "network.heads=2"),
    ]
    outcome = program("train-teacher", "imagenet", *small, *FEW_TEACHER, prelude=prelude)
    assert outcome.code == 2
    assert "di4c convert last.ckpt --kind vqgan" in outcome.err
    assert not (program.runs / "imagenet").exists()
