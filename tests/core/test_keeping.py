"""The newest and the best checkpoints stay; the best is told by held-out data."""

import json
import math

import pytest
import torch

from di4c_cli.core import checkpoints
from di4c_cli.core.checkpoint_header import header_text
from di4c_cli.core.codecs import states
from di4c_cli.core.datasets import toy
from di4c_cli.core.held_out import HeldOut
from di4c_cli.core.keeping import Keeper
from di4c_cli.core.processes import masked
from di4c_cli.core.space import Batch
from di4c_cli.core.teachers import exact
from di4c_cli.core.times import Config as Times
from di4c_cli.runs import RunDirectory

CONFIG = {"name": "toy", "role": "student", "recipe": {}}
WEIGHTS = {"w": torch.ones(2)}


@pytest.fixture
def keeper(tmp_path, monkeypatch):
    monkeypatch.setenv("DI4C_RUNS", str(tmp_path))
    run = RunDirectory.create("toy", "student", "a")
    return Keeper(run, CONFIG, lambda step: f"step {step}", keep=2)


def save(keeper, step, held_out, name=None):
    keeper.save(keeper.run.path / (name or f"step-{step}"), step, WEIGHTS, WEIGHTS, None, held_out)
    keeper.forget_old()


def kept(keeper):
    return [path.name for path in keeper.run.checkpoints()]


def pointed(keeper, name):
    return (keeper.run.path / name).read_text().strip()


def test_the_newest_and_the_best_are_kept_and_named(keeper):
    for step, nats in enumerate([3.0, 1.0, 2.0, 2.5, 2.2], 1):
        save(keeper, step, nats)
    assert kept(keeper) == ["step-2", "step-4", "step-5"]
    assert (pointed(keeper, "latest"), pointed(keeper, "best")) == ("step-5", "step-2")
    save(keeper, 6, 0.5)
    assert kept(keeper) == ["step-5", "step-6"]
    save(keeper, 7, 0.5, name="final")  # of equals, the newer
    assert (pointed(keeper, "latest"), pointed(keeper, "best")) == ("final", "final")


def test_without_a_figure_none_is_the_best(keeper):
    for step in (1, 2, 3):
        save(keeper, step, None)
    assert kept(keeper) == ["step-2", "step-3"]
    assert not (keeper.run.path / "best").exists()


def test_what_predicts_nothing_is_not_the_best(keeper):
    save(keeper, 1, math.inf)
    assert not (keeper.run.path / "best").exists()
    save(keeper, 2, 2.0)
    save(keeper, 3, math.inf)
    assert pointed(keeper, "best") == "step-2"
    assert "held_out" not in checkpoints.read_config(keeper.run.path / "step-3")
    header = keeper.run.path / "step-3" / "config.json"  # as it was once written
    header.write_text(header_text(json.loads(header.read_text()) | {"held_out": math.nan}, strict=False))
    assert math.isnan(checkpoints.read_config(header.parent)["held_out"])
    assert keeper.best() == keeper.run.path / "step-2"
    with pytest.raises(ValueError, match="JSON"):
        header_text({"held_out": math.nan})


def test_a_damaged_one_is_not_the_best(keeper):
    save(keeper, 1, 1.0)
    save(keeper, 2, 2.0)
    (keeper.run.path / "step-1" / "config.json").write_text("{")
    save(keeper, 3, 3.0)
    assert pointed(keeper, "best") == "step-2"
    assert checkpoints.read_config(keeper.run.path / "step-2")["held_out"] == 2.0


def test_held_out_data_tells_who_knows_more():
    codec = states.Config(num_dims=3, num_states=3).build()
    data = toy.Config(joint="markov", num=300).build(codec)
    process = masked.Config().build(codec.space)
    knows = exact.Config().build(process, None, data, None)
    points = Batch(data.test.x_0[:50].long())
    measure = HeldOut(process, points, Times(at_one=1.0), num_latents=2, at_once=7)
    alive = []
    assert measure(knows) == measure(knows, lambda: alive.append(1))
    assert len(alive) == 8  # 50 points, 7 at a time
    singles = [data.joint.sum([k for k in range(3) if k != d]).log()[points.x_0[:, d]] for d in range(3)]
    assert measure(knows) == pytest.approx(-sum(singles).mean().item())  # at t = 1 all that is known

    class Unsure(exact.ExactDenoiser):
        """Sees nothing of x_t."""

        def __call__(self, x_t, t, label=None, *, generator=None):
            return super().__call__(torch.full_like(x_t, process.mask_id), torch.ones_like(t), label)

    early = HeldOut(process, points, Times(), num_latents=2, at_once=7)
    assert early(knows) < early(Unsure(process, data.joint))
