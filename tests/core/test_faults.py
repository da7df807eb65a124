"""Disks that fail and bits that flip: the newest sound checkpoint is found, and no damage is loaded."""

import errno
import io
import itertools
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from di4c_cli import assembly, recipe_file, shipped
from di4c_cli.core import checkpoints
from di4c_cli.core.trainer import Trainer
from di4c_cli.errors import CheckpointError, RunError
from di4c_cli.starting import begin, continue_from_newest

OPERATIONS = [
    (os, name) for name in ("mkdir", "open", "replace", "fsync", "chmod", "unlink", "rmdir", "rename")
]
OPERATIONS += [(io, "open"), (checkpoints, "save_file"), (shutil, "disk_usage")]
SMALL = ["network.width=8", "network.depth=2", "student.num_latents=2", "train.batch_size=4", "train.keep=2"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A trainer of the toy in a run directory of its own, which has seen no step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DI4C_RUNS", str(tmp_path_factory.mktemp("runs")))

        def prepared(resume=None):
            loaded = recipe_file.load(shipped.find_recipe("toy"), SMALL)
            trainer, _ = assembly.prepare(
                loaded, "student", torch.device("cpu"), None, resume, None, lambda *row: None, print
            )
            if resume is None:
                begin(trainer, loaded, resuming=False)
            return trainer

        yield prepared


@contextmanager
def failing(number: int, code: int, below: str) -> Iterator[list[str]]:
    """Within, the n-th operation on a file below a folder fails; gives the names of those that were made."""
    made: list[str] = []

    def watched(owner, name):
        function = getattr(owner, name)

        def call(*args, **options):
            if not any(below in str(arg) for arg in args[:2]) and name != "fsync":
                return function(*args, **options)
            made.append(name)
            if len(made) == number:
                if name == "save_file":
                    args[1].write_bytes(b"half of it")
                raise OSError(code, os.strerror(code), str(args[0]))
            return function(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in OPERATIONS:
            patch.setattr(owner, name, watched(owner, name))
        yield made


def set_weights(trainer: Trainer, value: float) -> None:
    with torch.no_grad():
        for p in trainer.parameters:
            p.fill_(value)


def saved(trainer: Trainer, code: int) -> bool:
    """Whether a save went through; what it says if not."""
    try:
        trainer.save()
    except RunError as error:
        said = str(error)
        return not ("\n" not in said and os.strerror(code) in said and "--resume" in said)
    return True


@pytest.mark.parametrize(
    ("code", "anew"),
    [
        (errno.ENOSPC, False),
        pytest.param(errno.EIO, True, marks=pytest.mark.slow),
        pytest.param(errno.ENOSPC, True, marks=pytest.mark.slow),
        pytest.param(errno.EIO, False, marks=pytest.mark.slow),
    ],
)
def test_whatever_fails_in_a_save_a_sound_checkpoint_is_found(prepared, code, anew):
    """Each operation in its turn; then the new checkpoint is there, whole, or else the one before."""
    trainer, again = prepared(), prepared()
    again.run = trainer.run
    trainer.step, newest, refused = 1, 1.0, 0
    set_weights(trainer, newest)
    assert saved(trainer, code)
    for number in itertools.count(1):
        trainer.step += anew
        set_weights(trainer, newest + 1)
        with failing(number, code, str(trainer.run.path)) as made:
            whole = saved(trainer, code)
        refused += not whole
        again.run.remove_half_written()
        continue_from_newest(again)
        (found,) = {p.item() for q in again.parameters for p in q.flatten()}
        assert found == newest + 1 or (not whole and found == newest), made
        newest = found
        left = [path.name for path in trainer.run.path.iterdir()]
        assert not [name for name in left if name.endswith((".tmp", ".old", ".damaged"))], made
        if len(made) < number:
            break
    print(f"{number - 1} operations failed in their turn, {refused} of them ended the save")
    assert number > 25


@pytest.mark.parametrize("changes", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_change_of_any_byte_is_loaded(prepared, changes):
    """Bits flipped, bytes replaced, files cut short, in every file but the model card."""
    trainer = prepared()
    trainer.step = 3
    folder = trainer.run.path / "step-3"
    trainer.save()
    draw = random.Random(5)
    files = sorted(path for path in folder.iterdir() if path.name != "README.md")
    assert [path.name for path in files] == [
        *("config.json", "ema.safetensors", "model.safetensors", "training.safetensors"),
    ]
    trainer.resume(folder)
    for number in range(changes):
        path = files[number % len(files)]
        whole = path.read_bytes()
        place, kind = draw.randrange(len(whole)), number // len(files) % 3
        damaged = bytearray(whole)
        if kind == 0:
            damaged[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            damaged[place] = (damaged[place] + draw.randrange(1, 256)) % 256
        else:
            del damaged[place:]
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            trainer.resume(folder)
        path.write_bytes(whole)
    trainer.resume(folder)


def test_previews_are_signs_of_life(prepared, monkeypatch):
    trainer, seen = prepared(), []
    monkeypatch.setattr(Trainer, "breathe", lambda trainer: seen.append(1))
    trainer.preview(1)
    assert len(seen) == 2 * sum(trainer.preview.house.recipe.preview.steps)  # once a call, of both models


def test_the_model_card_is_for_people(prepared):
    trainer = prepared()
    trainer.step = 3
    trainer.save()
    (trainer.run.path / "step-3" / "README.md").write_text("my own words")
    trainer.resume(trainer.run.path / "step-3")
