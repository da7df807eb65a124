"""The training loop: gradients, averages, schedules, resume bit for bit, and what it leaves on disk."""

import errno
import itertools
import json
import math
import os
import signal
import threading
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from di4c_cli.core import checkpoints, parameterization
from di4c_cli.core.codecs.states import Config as States
from di4c_cli.core.datasets import toy
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.ema import EMA
from di4c_cli.core.loader import Loader
from di4c_cli.core.losses import Weight, consistency, datapoint, denoising, marginal
from di4c_cli.core.networks import mlp
from di4c_cli.core.optimisation import Config
from di4c_cli.core.order import data_indices, step_seed
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.samplers import ancestral
from di4c_cli.core.schedule import Course, LearningRate
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.teachers.exact import ExactDenoiser
from di4c_cli.core.times import Config as Times
from di4c_cli.core.trainer import Trainer
from di4c_cli.core.training_state import same_network
from di4c_cli.errors import CheckpointError, DataError, Interrupted, NonFiniteLossError, RunError
from di4c_cli.runs import RunDirectory, Status

CODEC = States(num_dims=4, num_states=2).build()
DATA = toy.Config(joint="pairs", num=50).build(CODEC)
PROCESS = MaskedProcess(CODEC.space)
ALL_TERMS = [marginal.Config(), datapoint.Config(), consistency.Config()]


class Section:
    """A `[[losses]]` section around a function of a segment."""

    def __init__(self, loss, kind="own"):
        self.kind, self.weight, self.loss = kind, Weight(), loss

    def build(self):
        return self.loss


def deterministic(segment):
    """Minus the log-likelihood of the data given masks everywhere: no noise, no time."""
    x_0 = segment.batch.x_0
    law = segment.cast.student.law(torch.full_like(x_0, PROCESS.mask_id), torch.ones(len(x_0)).double())
    return -law.log_joint(x_0[:, None])[:, 0]


@pytest.fixture
def make(tmp_path):
    """A trainer of a small mixture student (or product teacher); settings go to [train]."""

    def build(losses=ALL_TERMS, *, name=None, role="student", lam_std=0.5, preview=None, every=0, **train):
        torch.manual_seed(1)
        network = mlp.Config(width=16, lam_std=lam_std).build(PROCESS.space, lam=role == "student")
        subs = parameterization.build("subs", PROCESS)
        if role == "student":
            model = MixtureDenoiser(network, subs)
            cast = Cast(
                process=PROCESS,
                student=model,
                num_latents=4,
                teacher=ExactDenoiser(PROCESS, DATA.joint),
                teacher_sampler=ancestral.Config().build(PROCESS),
            )
        else:
            model = NetworkDenoiser(network, subs)
            cast = Cast(process=PROCESS, student=model)
        settings = {"steps": 8, "batch_size": 10, "log_every": 1, "lr": {"peak": 0.05}, **train}
        narrated = []
        trainer = Trainer(
            cast=cast,
            model=model,
            losses=losses,
            times=Times(at_one=0.3, step=0.1),
            config=Config.model_validate(settings),
            run=RunDirectory.create("toy", role, name, root=tmp_path),
            status=Status(),
            header={"recipe": {}},
            card=lambda step: f"# step {step}\n",
            preview=preview or (lambda step: None),
            preview_every=every,
            progress=lambda step, steps, row: None,
            narrate=narrated.append,
            device=torch.device("cpu"),
        )
        trainer.narrated = narrated
        return trainer

    return build


def run(trainer, stop_at=None):
    trainer.fit(DATA.train, lambda: signal.SIGINT if trainer.step == stop_at else None)
    return trainer


def weights(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


def same(first, second):
    """Bit for bit: raw weights and averages."""
    raw = all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    return raw and all(torch.equal(p, second.ema.shadow[name]) for name, p in first.ema.shadow.items())


def at_each_step(trainer, look):
    """What `look` sees whenever the optimiser is about to step."""
    seen, step = [], trainer.optimizer.step

    def looked():
        seen.append(look())
        step()

    trainer.optimizer.step = looked
    return seen


# data and seeds


def test_every_epoch_is_a_fresh_permutation_in_consecutive_pieces():
    size, batch = 25, 10
    index = torch.cat([data_indices(size, batch, step, seed=3) for step in range(10)])
    epochs = index.view(4, size)
    assert all(epoch.sort().values.tolist() == list(range(size)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(data_indices(size, batch, 7, seed=3), index[70:80])
    assert not torch.equal(data_indices(size, batch, 7, seed=4), index[70:80])


def test_batches_may_be_larger_than_the_data():
    index = data_indices(3, 10, 1, seed=0)
    assert len(index) == 10
    assert index.bincount().amax() <= 4


def test_seeds_of_steps_and_parts_do_not_meet():
    seeds = {step_seed(s, t, p) for s in range(10) for t in range(100) for p in range(-1, 4)}
    assert len(seeds) == 10 * 100 * 5
    assert all(0 <= seed < 2**63 for seed in seeds)


# one step


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4, 10, 64])
def test_gradient_in_parts_is_that_of_the_whole_batch(make, accumulate):
    trainer = make([Section(deterministic)], role="teacher", accumulate=accumulate, steps=1, clip=0)
    trainer.model.double()
    trainer.__post_init__()
    seen = at_each_step(trainer, lambda: [p.grad.clone() for p in trainer.parameters])
    index = data_indices(len(DATA.train), 10, 0, seed=0)
    times = torch.ones(10).double()
    whole = Segment(trainer.cast, DATA.train[index], times, times / 2, torch.Generator())
    loss = deterministic(whole).mean()
    wanted = torch.autograd.grad(loss, trainer.parameters)
    row = trainer.fit(DATA.train, lambda: None)
    for got, expected in zip(seen[0], wanted, strict=True):
        assert torch.allclose(got, expected, atol=1e-13)
    assert row["loss"] == pytest.approx(loss.item())
    assert row["loss/own"] == pytest.approx(
        loss.item(), rel=0.2
    )  # a mean over parts, which may differ in size


def test_parts_have_their_own_noise(make):
    seen = []

    def loss(segment):
        seen.extend([torch.rand(()).item(), torch.rand((), generator=segment.generator).item()])
        return deterministic(segment)

    run(make([Section(loss)], role="teacher", accumulate=2, steps=3))
    assert len(seen) == len(set(seen)) == 2 * 2 * 3


def test_losses_add_up_with_their_weights(make):
    terms = [marginal.Config(weight=2.0), datapoint.Config(weight=0.5), consistency.Config()]
    row = make(terms, steps=1).fit(DATA.train, lambda: None)
    total = 2 * row["loss/marginal"] + 0.5 * row["loss/datapoint"] + row["loss/consistency"]
    assert row["loss"] == pytest.approx(total)


def test_a_loss_of_weight_zero_is_not_computed(make):
    off = marginal.Config(weight=Weight(course=Course(knots=[(0.0, 0.0), (0.4, 0.0), (0.5, 1.0)])))
    trainer = run(make([off, datapoint.Config()], steps=4))
    assert ["loss/marginal" in row for row in trainer.run.metrics()] == [False, False, True, True]
    nothing = marginal.Config(weight=Weight(course=Course(knots=[(0.5, 0.0), (1.0, 1.0)])))
    before = weights(trainer := make([nothing], steps=2))
    run(trainer)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))


def test_gradients_are_clipped_after_they_are_measured(make):
    steep = [Section(lambda segment: 1000 * deterministic(segment))]
    for clip in (0.1, 0):
        trainer = make(steep, role="teacher", clip=clip)
        seen = at_each_step(
            trainer, lambda t=trainer: torch.cat([p.grad.flatten() for p in t.parameters]).norm()
        )
        run(trainer)
        measured = [row["grad_norm"] for row in trainer.run.metrics()]
        assert all(norm > 100 for norm in measured)
        assert [norm.item() for norm in seen] == pytest.approx([0.1] * 8 if clip else measured, rel=1e-4)


def test_learning_rate_follows_its_schedule(make):
    lr = LearningRate(peak=0.01, warmup=3, floor=0.1)
    trainer = make(lr=lr)
    seen = at_each_step(trainer, lambda: trainer.optimizer.param_groups[0]["lr"])
    run(trainer)
    assert seen == [lr.at(step, 8) for step in range(8)]
    assert [row["lr"] for row in trainer.run.metrics()] == seen
    assert Config(lr=0.02).lr == LearningRate(peak=0.02)


# the average


def test_average_follows_its_formula(make):
    """d = min(decay, (1 + n) / (10 + n)), n updates so far."""
    trainer = make(ema=0.25)
    shadow = weights(trainer)
    passed = at_each_step(trainer, lambda: weights(trainer))
    run(trainer)
    decays = []
    for n, current in enumerate([*passed[1:], weights(trainer)]):
        decays.append(min(0.25, (1 + n) / (10 + n)))
        shadow = [decays[-1] * a + (1 - decays[-1]) * p for a, p in zip(shadow, current, strict=True)]
    assert decays[0] == 0.1
    assert decays[-1] == 0.25
    for (name, _), expected in zip(trainer.model.named_parameters(), shadow, strict=True):
        assert torch.allclose(trainer.ema.shadow[name], expected, atol=1e-6)


def test_average_is_lent_and_given_back():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).train()
    ema = EMA(net, 0.9)
    first = net[0].weight.clone()
    with torch.no_grad():
        net[0].weight.add_(1)
    own = net[0].weight.clone()
    with ema.applied(net):
        assert torch.equal(net[0].weight, first)
        assert not net.training
    assert torch.equal(net[0].weight, own)
    assert net.training

    def fail():
        with ema.applied(net.eval()):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(net[0].weight, own)
    assert not net.training
    ema.update(net)  # counters of buffers are no averages
    assert ema.shadow["1.num_batches_tracked"].item() == 0


# resume


@pytest.fixture
def whole(make):
    return run(make(name="whole"))


def interrupted(make, **settings):
    trainer = make(name="first", **settings)
    with pytest.raises(Interrupted) as error:
        run(trainer, stop_at=3)
    assert error.value.exit_code == 130
    assert "--resume" in error.value.hint
    return trainer.run.path / "step-3"


def test_a_resumed_run_is_the_uninterrupted_one(make, whole):
    folder = interrupted(make)
    second = make(name="second")
    second.resume(folder)
    assert second.step == 3
    assert second.elapsed > 0
    run(second)
    assert same(whole, second)
    rows = [[row["loss"] for row in trainer.run.metrics()] for trainer in (whole, second)]
    assert rows[0][3:] == rows[1]
    final = [checkpoints.read_tensors(t.run.final, "ema.safetensors") for t in (whole, second)]
    assert all(torch.equal(p, final[1][name]) for name, p in final[0].items())


FORGOTTEN = {
    "the optimiser's moments": lambda t: t.optimizer.state.clear(),
    "one moment of one weight": lambda t: t.optimizer.state[t.parameters[0]]["exp_avg_sq"].zero_(),
    "the optimiser's count": lambda t: [s["step"].fill_(1) for s in t.optimizer.state.values()],
    "the step": lambda t: setattr(t, "step", 2),
    "the average": lambda t: setattr(t, "ema", EMA(t.model, t.config.ema)),
    "the average's count": lambda t: setattr(t.ema, "updates", 0),
    "the weights": lambda t: t.model.load_state_dict(t.ema.shadow),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_resume_needs_every_piece(make, whole, what):
    """Or `test_a_resumed_run_is_the_uninterrupted_one` could not fail."""
    folder = interrupted(make)
    second = make(name="second")
    second.resume(folder)
    FORGOTTEN[what](second)
    assert not same(whole, run(second))


def test_resume_from_regular_checkpoints_of_which_few_are_kept(make, whole):
    first = run(make(name="first", save_every=2, keep=3))
    assert [p.name for p in first.run.checkpoints()] == ["step-4", "step-6", "step-8"]
    assert same(whole, first)
    for folder in first.run.checkpoints():
        again = make(name=f"again-{folder.name}")
        again.resume(folder)
        assert same(whole, run(again))


def test_weights_without_a_gradient_do_not_stop_a_resume(make):
    def with_idle_weight(name):
        trainer = make(name=name)
        trainer.model.idle = torch.nn.Parameter(torch.ones(3))
        trainer.__post_init__()
        return trainer

    whole, first, second = (with_idle_weight(name) for name in ("whole", "first", "second"))
    run(whole)
    with pytest.raises(Interrupted):
        run(first, stop_at=3)
    second.resume(first.run.path / "step-3")
    assert same(whole, run(second))


def test_resume_refuses_what_does_not_fit(make, whole):
    folder = interrupted(make)
    with pytest.raises(CheckpointError, match=r"training\.safetensors: missing"):
        make(name="a").resume(whole.run.final)
    with pytest.raises(CheckpointError, match="another network"):
        make(name="b", role="teacher").resume(folder)
    training = checkpoints.read_tensors(folder, checkpoints.TRAINING)
    model = checkpoints.read_tensors(folder, "model.safetensors")
    name = next(iter(model))
    for missing in (f"exp_avg/{name}", "counter/step", f"step/{name}"):
        less = {key: value for key, value in training.items() if key != missing}
        checkpoints.save(folder, config={"recipe": {}}, model=model, ema=model, card="", training=less)
        with pytest.raises(CheckpointError, match=f"missing: {missing}"):
            make(name=f"c-{missing.replace('/', '-')}").resume(folder)
    less = {key: value for key, value in model.items() if key != name}
    checkpoints.save(folder, config={"recipe": {}}, model=model, ema=less, card="", training=training)
    with pytest.raises(CheckpointError, match=rf"ema\.safetensors.*missing: {name}"):
        make(name="d").resume(folder)


def test_global_randomness_is_set_by_the_step(make):
    """Dropout draws from it: it must not depend on what ran before."""
    noisy = [Section(lambda segment: deterministic(segment) * torch.rand(()))]
    first = make(noisy, role="teacher")
    torch.manual_seed(5)
    run(first)
    second = make(noisy, role="teacher")
    torch.manual_seed(6)
    assert same(first, run(second))


def test_seeds_make_runs(make, whole):
    assert same(whole, run(make(name="again")))
    assert not same(whole, run(make(name="other", seed=1)))


def test_previews_do_not_change_the_training(make, whole):
    seen = []

    def preview(step):
        torch.rand(100)
        name, p = next(trainer.model.named_parameters())
        seen.append((step, trainer.model.training, torch.equal(p, trainer.ema.shadow[name])))
        with torch.no_grad():
            law = trainer.model.law(
                torch.full((5, 4), 2), torch.ones(5).double(), generator=torch.Generator().manual_seed(0)
            )
            law.draw_each(torch.Generator())

    trainer = make(name="seen", preview=preview, every=3)
    assert same(whole, run(trainer))
    assert seen == [(3, False, True), (6, False, True), (8, False, True)]
    assert trainer.model.training


# what goes wrong


def poisoned(value, at):
    """A loss that turns to `value` at one step."""
    count = iter(range(1000))

    def loss(segment):
        return deterministic(segment) * (value if next(count) == at else 1.0)

    return [Section(loss)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("log_every", [1, 3, 100])
def test_a_loss_that_is_not_finite_ends_the_run(make, value, log_every):
    settings = {"log_every": log_every, "save_every": 2, "steps": 20, "max_skipped": 0}
    trainer = make(poisoned(value, at=4), role="teacher", **settings)
    with pytest.raises(NonFiniteLossError, match="not finite at step") as error:
        run(trainer)
    assert error.value.exit_code == 3
    assert error.value.hint
    assert trainer.step <= 6
    assert [p.name for p in trainer.run.checkpoints()] == ["step-2", "step-4"]
    assert not trainer.run.final.exists()
    for folder in trainer.run.checkpoints():  # and what is there is sound
        checkpoints.load_weights(trainer.model, folder, "raw")
        assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_left_out_and_counted(make, value):
    trainer = make(poisoned(value, at=4), role="teacher", log_every=3, steps=9)
    seen = at_each_step(trainer, lambda: weights(trainer))
    run(trainer)
    changed = [not torch.equal(a[0], b[0]) for a, b in itertools.pairwise([*seen, weights(trainer)])]
    assert changed == [step != 4 for step in range(9)]
    counts = {int(state["step"]) for state in trainer.optimizer.state.values()}
    assert counts == {8}  # the optimiser does not know of it
    rows = list(trainer.run.metrics())
    assert [row.get("skipped") for row in rows] == [None, 1, 1]
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_a_log_line_of_steps_that_were_all_left_out_has_no_loss(make):
    trainer = make([Section(lambda s: deterministic(s) * math.nan)], role="teacher", steps=3)
    with pytest.raises(NonFiniteLossError):
        run(trainer)
    assert [(row["skipped"], "loss" in row) for row in trainer.run.metrics()] == [
        (n, False) for n in (1, 2, 3)
    ]


def test_no_step_that_was_left_out_is_saved(make):
    """The weights may be lost already: what is due waits for the next sound step."""
    trainer = make(poisoned(math.nan, at=3), role="teacher", save_every=4)
    run(trainer)
    assert [path.name for path in trainer.run.checkpoints()] == ["step-5", "step-8"]
    stopped = make(poisoned(math.nan, at=3), role="teacher", name="stopped")
    with pytest.raises(Interrupted, match="at step 5 of 8"):
        stopped.fit(DATA.train, lambda: signal.SIGTERM if stopped.step >= 4 else None)
    assert [path.name for path in stopped.run.checkpoints()] == ["step-5"]
    last = make(poisoned(math.nan, at=7), role="teacher", name="last", save_every=3)
    with pytest.raises(NonFiniteLossError, match="at step 8, the last; nothing was saved"):
        run(last)
    assert [path.name for path in last.run.checkpoints()] == ["step-3", "step-6"]
    assert not last.run.final.exists()


def test_a_model_that_has_diverged_is_not_saved(make):
    """Its weights may be finite: held-out data tells. No good checkpoint goes for it."""
    trainer = make(save_every=2, keep=1)
    figures = iter([2.0, 1.0, math.nan])
    trainer.held_out = lambda model, alive: next(figures)
    with pytest.raises(NonFiniteLossError, match="not a number at step 6; nothing was saved") as error:
        run(trainer)
    assert error.value.exit_code == 3
    assert [path.name for path in trainer.run.checkpoints()] == ["step-4"]
    assert (trainer.run.path / "best").read_text() == "step-4\n"
    for broken in ("shadow", "weights"):
        trainer = make(name=broken)
        values = trainer.ema.shadow.values() if broken == "shadow" else trainer.parameters
        with torch.no_grad():
            next(iter(values)).fill_(math.inf)
        with pytest.raises(NonFiniteLossError, match="weights are not finite"):
            trainer.save()
        assert trainer.run.checkpoints() == []


def test_the_count_of_steps_left_out_is_resumed(make):
    first = make(poisoned(math.nan, at=1), role="teacher", name="first")
    with pytest.raises(Interrupted):
        run(first, stop_at=3)
    second = make(poisoned(math.nan, at=0), role="teacher", name="second")
    second.resume(first.run.path / "step-3")
    run(second)
    assert [row["skipped"] for row in second.run.metrics()] == [2] * 5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_batch_that_ended_a_run_is_written_down(make, accumulate):
    """Its data and all that its noise depended on: the step can be computed again."""
    poison = poisoned(math.nan, at=4 * accumulate)
    trainer = make(poison, role="teacher", max_skipped=0, accumulate=accumulate, seed=3)
    with pytest.raises(NonFiniteLossError, match="not finite at step 5; 1 steps were left out") as error:
        run(trainer)
    assert "non-finite/" in error.value.hint
    folder = trainer.run.path / "non-finite"
    told = json.loads((folder / "step-4.json").read_text())
    assert told["seed"] == 3
    assert told["step"] == 4
    assert told["loss"] == "nan"
    assert told["parts"] == [{"part": n, "seed": step_seed(3, 4, n)} for n in range(accumulate)]
    parts = load_file(folder / "step-4.safetensors")
    index = data_indices(len(DATA.train), 10, 4, seed=3)
    assert torch.equal(torch.cat([parts[f"{n}/x_0"] for n in range(accumulate)]), DATA.train[index].x_0)


def test_a_full_disk_ends_the_run_and_keeps_what_was_saved(make, monkeypatch):
    trainer = make(save_every=2)
    written = []

    def save_file(tensors, path, metadata=None):
        written.append(path)
        if len(written) > 4:  # the second checkpoint's second file
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(tensors, path, metadata)

    original = checkpoints.save_file
    monkeypatch.setattr(checkpoints, "save_file", save_file)
    with pytest.raises(RunError, match="cannot save the checkpoint: No space left on device") as error:
        run(trainer)
    assert "--resume" in error.value.hint
    assert {p.name for p in trainer.run.path.iterdir() if p.is_dir()} == {"step-2"}
    monkeypatch.undo()
    again = make(name="again")
    again.resume(trainer.run.path / "step-2")
    assert same(run(make(name="whole")), run(again))


def test_a_signal_after_the_last_step_finishes_but_for_pictures(make):
    drawn = []
    for stop_at in (3, None):
        trainer = run(make(steps=3, preview=drawn.append), stop_at=stop_at)
        assert trainer.run.final.is_dir()
        assert [path.name for path in trainer.run.checkpoints()] == ["step-3"]
    assert drawn == [3]


def test_a_finished_run_trains_on_from_its_last_step(make):
    """As if it had been longer from the beginning, where the learning rate is the same."""
    lr = {"peak": 0.05, "shape": "constant"}
    first = run(make(name="first", steps=5, lr=lr))
    second = make(name="second", steps=8, lr=lr)
    second.resume(first.run.path / "step-5")
    assert same(run(second), run(make(name="whole", steps=8, lr=lr)))


def test_a_resume_with_all_steps_done_still_tells_the_last_figures(make):
    first = make(name="first", steps=4)
    told = first.fit(DATA.train, lambda: None)
    again = make(name="again", steps=4)
    again.run = first.run
    again.keeper = replace(again.keeper, run=first.run)
    again.resume(first.run.path / "step-4")
    assert again.fit(DATA.train, lambda: None) == told
    assert same(first, again)


# what it says


def test_a_run_breathes_between_its_log_lines_also_within_a_step(make, monkeypatch):
    told = []
    monkeypatch.setattr("di4c_cli.core.trainer.HEARTBEAT", -1.0)
    monkeypatch.setattr(RunDirectory, "write_status", lambda run, status: told.append(status.step))
    run(make(steps=3, log_every=100, accumulate=2))
    assert told[:9] == [0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_rows_of_metrics(make):
    trainer = run(make(log_every=3))
    rows = list(trainer.run.metrics())
    assert [row["step"] for row in rows] == [3, 6, 8]
    fields = {
        *("step", "time", "elapsed", "loss", "loss/marginal", "loss/datapoint", "loss/consistency", "lr"),
        *("grad_norm", "samples_per_s", "memory_mb", "effective_components"),
        *("marginal", "correlation", "marginal_plus_correlation"),
    }
    assert all(row.keys() == fields for row in rows)
    assert trainer.run.status().step == 8
    alone = [row["loss"] for row in run(make(name="each")).run.metrics()]
    means = [sum(alone[:3]) / 3, sum(alone[3:6]) / 3, sum(alone[6:]) / 2]
    assert [row["loss"] for row in rows] == pytest.approx(means)


def test_a_teacher_needs_no_teacher(make):
    row = make([denoising.Config()], role="teacher", steps=3).fit(DATA.train, lambda: None)
    assert "correlation" not in row
    assert row["loss"] == row["loss/denoising"]


def test_a_lambda_that_is_ignored_is_told_once(make):
    still = make(lam_std=0.0, lr=1e-9, steps=12, warn_after=4)
    run(still)
    assert len(still.narrated) == 1
    assert "lambda is being ignored" in still.narrated[0]
    assert "step 4" in still.narrated[0]
    assert "lambda is being ignored" in still.run.log_path.read_text()
    teacher = run(make([denoising.Config()], role="teacher", steps=12, warn_after=4))
    assert teacher.narrated == []


def test_final_holds_the_model_and_its_card(make):
    trainer = run(make())
    assert {p.name for p in trainer.run.final.iterdir()} == {
        *("config.json", "README.md", "model.safetensors", "ema.safetensors")
    }
    assert (trainer.run.final / "README.md").read_text() == "# step 8\n"
    assert checkpoints.read_config(trainer.run.final)["step"] == 8
    averaged = checkpoints.read_tensors(trainer.run.final, "ema.safetensors")
    assert all(torch.equal(p, trainer.ema.shadow[name]) for name, p in averaged.items())


@pytest.mark.slow  # tests/test_extend.py has the same of the program
def test_training_brings_the_correlations_into_the_mixture(make):
    """One step from all masks: a product law has a total variation of 3/4, four components have none."""
    trainer = make(steps=200, batch_size=64, log_every=100, lr={"peak": 0.02}, ema=0.9)
    run(trainer)
    lam = (torch.arange(64).double() + 0.5)[None] / 64
    with torch.no_grad(), trainer.ema.applied(trainer.model):
        law = trainer.model.mixture(torch.full((1, 4), PROCESS.mask_id), torch.ones(1).double(), lam)
        joint = law.log_joint(trainer.cast.teacher.states[None]).exp()[0]
    assert (joint - DATA.joint.flatten()).abs().sum().item() / 2 < 0.25


# rounds: the student becomes the teacher


def in_rounds(make, name=None):
    """A product student that is promoted every third of eight steps."""
    trainer = make([marginal.Config(), Section(deterministic)], role="teacher", name=name, promote_every=3)
    torch.manual_seed(2)
    network = mlp.Config(width=16, lam_std=0.5).build(PROCESS.space, lam=False)
    teacher = NetworkDenoiser(network, parameterization.build("subs", PROCESS)).eval().requires_grad_(False)
    trainer.cast = replace(trainer.cast, teacher=teacher)
    return trainer


def test_the_student_is_promoted_at_the_end_of_a_round(make):
    trainer = in_rounds(make)
    teachers, students = [], []

    def look():
        teachers.append(torch.cat([p.flatten() for p in trainer.cast.teacher.parameters()]))
        students.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))

    at_each_step(trainer, look)
    run(trainer)
    changed = [k for k in range(1, len(teachers)) if not torch.equal(teachers[k], teachers[k - 1])]
    assert len(changed) == 2
    for k in changed:  # raw weights, not their average
        assert any(torch.equal(teachers[k], student) for student in students)
    assert not any(p.requires_grad for p in trainer.cast.teacher.parameters())


def test_a_round_resumes_with_the_teacher_that_it_had(make):
    whole = run(in_rounds(make, "whole"))
    first = in_rounds(make, "first")
    with pytest.raises(Interrupted):
        run(first, stop_at=5)
    second = in_rounds(make, "second")
    second.resume(first.run.path / "step-5")
    assert same(run(second), whole)
    forgetful = in_rounds(make, "forgetful")
    original = {name: p.clone() for name, p in forgetful.cast.teacher.state_dict().items()}
    forgetful.resume(first.run.path / "step-5")
    forgetful.cast.teacher.load_state_dict(original)
    assert not same(run(forgetful), whole)


def test_only_the_same_network_can_be_promoted():
    student = mlp.Config(width=16).build(PROCESS.space, lam=False)
    with pytest.raises(ValueError, match="same network"):
        same_network(student, mlp.Config(width=8).build(PROCESS.space, lam=False))
    with pytest.raises(ValueError, match="same network"):
        same_network(student, ExactDenoiser(PROCESS, DATA.joint))


# speed and memory


def test_rows_at_a_time_train_the_same_weights(make):
    """Four draws of lambda for ten data points: all 40 rows at once, or three at a time."""
    whole, split = run(make()), run(make(rows_at_once=3))
    assert split.model.network.rows_at_once == 3
    for a, b in zip(weights(whole), weights(split), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_half_precision_stops_at_the_head(make):
    seen = {}
    trainer = make(precision="bfloat16")
    network = trainer.model.network

    def watch(name):
        def look(module, given, out):
            seen[name] = given[0].dtype, out.dtype

        return look

    network.shared.inner.register_forward_hook(watch("body"))
    head = network.head
    network.head = lambda h, sites: (
        seen.setdefault("head", (h.dtype, head(h, sites).dtype)) and head(h, sites)
    )
    run(trainer)
    assert seen["body"] == (torch.float32, torch.bfloat16)
    assert seen["head"] == (torch.float32, torch.float32)
    assert all(p.dtype == torch.float32 for p in weights(trainer))
    plain = run(make())
    moved = [torch.dist(a, b) for a, b in zip(weights(trainer), weights(plain), strict=True)]
    assert 0 < max(moved) < 1


def test_what_cannot_be_compiled_runs_as_it_is(make, monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("no compiler\non this machine")

    monkeypatch.setattr(torch, "compile", lambda function, **options: fails)
    with pytest.warns(UserWarning, match="cannot compile, going on without: RuntimeError no compiler$"):
        trainer = run(make(compile=True, steps=2))
    assert same(trainer, run(make(steps=2)))


class Counted:
    """A split that notes in which thread each batch was fetched."""

    def __init__(self):
        self.threads = []

    def __len__(self):
        return len(DATA.train)

    def __getitem__(self, index):
        self.threads.append(threading.current_thread().name)
        return DATA.train[index]


def test_batches_are_fetched_one_step_ahead_and_are_the_steps_own():
    split = Counted()
    with closing(Loader(split, 10, 2, seed=3, device=torch.device("cpu"))) as loader:
        for step in (0, 1, 2, 7):  # a resume starts anywhere
            index = data_indices(len(split), 10, step, 3)
            parts = loader(step)
            assert torch.equal(torch.cat([part.x_0 for part in parts]), DATA.train[index].x_0)
            assert [len(part) for part in parts] == [5, 5]
    assert split.threads[:2] == ["MainThread"] * 2  # nobody knew
    assert split.threads[2].startswith("loader")
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_what_goes_wrong_in_a_fetch_is_raised_in_its_step(make):
    class Damaged(Counted):
        def __getitem__(self, index):
            if len(self.threads) == 3:
                raise DataError("shard 2 is damaged")
            return super().__getitem__(index)

    trainer = make()
    with pytest.raises(DataError, match="shard 2"):
        trainer.fit(Damaged(), lambda: None)
    assert trainer.step == 3
