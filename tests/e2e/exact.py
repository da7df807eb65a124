"""Short runs that can be stopped anywhere, and what it means that two of them are the same."""

from pathlib import Path

import torch
from program import TINY_TEACHER
from safetensors.torch import load_file

from di4c_cli.runs import RunDirectory

STEPS, LOG_EVERY, SAVE_EVERY = 240, 10, 40
CADENCE = [f"{{}}.steps={STEPS}", f"{{}}.log_every={LOG_EVERY}", f"{{}}.save_every={SAVE_EVERY}"]
DISTILL = [
    *("distill", "toy", "network.width=16", "network.depth=2", "student.num_latents=4", "train.batch_size=8"),
    *("preview.every=0", "metrics=[]", *(setting.format("train") for setting in CADENCE)),
]
TRAIN = ["train-teacher", "digits", *TINY_TEACHER, *(setting.format("teacher.train") for setting in CADENCE)]
RUNS = {"distill": (DISTILL, "toy/student-1"), "train-teacher": (TRAIN, "digits/teacher-1")}


def differing(a: Path, b: Path) -> list[str]:
    """Tensors of two finished models that are not the same, bit for bit."""
    found = []
    for name in ("model.safetensors", "ema.safetensors"):
        first, second = load_file(a / name), load_file(b / name)
        assert first.keys() == second.keys()
        found += [f"{name}: {key}" for key in first if not torch.equal(first[key], second[key])]
    return found


def assert_same_run(run: RunDirectory, other: RunDirectory) -> None:
    """Same weights, and the same lines of metrics but for what the clock says."""
    assert differing(run.final, other.final) == []
    clock = {"time", "elapsed", "samples_per_s", "memory_mb"}
    lines = [[{k: v for k, v in row.items() if k not in clock} for row in r.metrics()] for r in (run, other)]
    assert [row["step"] for row in lines[0]] == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))
    assert lines[0] == lines[1]
    assert run.status().state == "finished"
    assert run.status().step == STEPS
