"""The dense comparison computes what our losses compute: values and gradients, from the same points."""

from dataclasses import replace

import pytest
import torch

from di4c_cli.bench.dense import DenseSegment, ancestral_step, dense, dense_of, foreign, sampled
from di4c_cli.bench.steps import Losses, ours
from di4c_cli.bench.subject import Trial
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.losses import Weight, consistency, datapoint, distillation, evaluated, marginal, sdtt
from di4c_cli.core.networks.mlp import Config as MLP
from di4c_cli.core.parameterization import build as parameterized
from di4c_cli.core.processes import gaussian, masked, uniform
from di4c_cli.core.samplers import sample
from di4c_cli.core.samplers.ancestral import Ancestral
from di4c_cli.core.samplers.ancestral import Config as AncestralConfig
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import Batch, StateSpace

B, L, D, S = 3, 4, 6, 5
T = torch.tensor([0.3, 0.6, 0.95], dtype=torch.float64)
LAM = torch.rand(B, L, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LAM_S = torch.rand(B, L, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LOSSES = {
    "marginal": marginal.Config(weight=2.0),
    "datapoint": datapoint.Config(weight=Weight(shape="linear")),
    "datapoint, joint": datapoint.Config(control_variate=False),
    "consistency": consistency.Config(weight=Weight(shape="sigmoid")),
    "consistency, joint": consistency.Config(control_variate=False),
    "distillation": distillation.Config(),
    "distillation of some": distillation.Config(share=0.7),
}
OWN_TIMES = {
    "one point": distillation.Config(at=(0.4, 0.9), share=0.7),
    "a point for each latent": distillation.Config(at=(0.4, 0.9), points="latent", atom=0.5),
}
SYSTEMS = {
    "masked": (masked.Config(), "subs"),
    "masked, free": (masked.Config(), "free"),
    "gaussian": (gaussian.Config(rate_sigma=2.0, target_sigma=3.0), "free"),
    "uniform": (uniform.Config(), "bayes"),
}


class Told(MixtureDenoiser):
    """A student whose lambda at x_t and at x_s is given."""

    def mixture(self, x_t, t, lam, label=None):
        return super().mixture(x_t, t, LAM if lam.shape == LAM.shape else LAM_S.view(lam.shape), label)


def trial_of(system, sections, student=Told):
    """In float64, at times of all sizes."""
    config, parameterization = SYSTEMS[system]
    process = config.build(StateSpace(shape=(D,), num_states=S))
    torch.manual_seed(0)
    network = MLP(width=8, depth=2, time=True)
    law = parameterized(parameterization, process)
    cast = Cast(
        process=process,
        student=student(network.build(process.space, lam=True).double(), law),
        num_latents=L,
        teacher=NetworkDenoiser(network.build(process.space, lam=False).double(), law).requires_grad_(False),
        teacher_sampler=Ancestral(process),
    )
    x_0 = torch.randint(S, (B, D), generator=torch.Generator().manual_seed(0))
    return Trial.of(cast, sections, Batch(x_0), T, T / 2)


def fed_by(segment, trial):
    """A dense segment with the points of ours."""

    class Fed(DenseSegment):
        lam_s = LAM_S
        x_s = segment.x_s.flatten(0, 1)
        target = segment.target

    return Fed(trial.cast, trial.batch, trial.t, trial.s, segment.x_t, LAM, trial.generator())


def gradients(value, trial):
    student = trial.cast.student
    student.zero_grad()
    value.sum().backward()
    return {name: p.grad for name, p in student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("loss", [*LOSSES, "all"])
def test_the_losses_are_ours(system, loss):
    trial = trial_of(system, list(LOSSES.values()) if loss == "all" else [LOSSES[loss]])
    segment = Segment(trial.cast, trial.batch, trial.t, trial.s, trial.generator())
    values = evaluated([(term.loss, segment) for term in trial.terms])
    own = sum(term.w * value for term, value in zip(trial.terms, values, strict=True))
    found = dense_of(fed_by(segment, trial), trial.terms)
    torch.testing.assert_close(found, own, rtol=1e-9, atol=1e-9)
    expected = gradients(own, trial)
    for name, gradient in gradients(found, trial).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", OWN_TIMES)
@pytest.mark.parametrize("system", SYSTEMS)
def test_distillation_at_its_own_times_is_ours(system, loss):
    trial = trial_of(system, [OWN_TIMES[loss]], MixtureDenoiser)
    segment = replace(DenseSegment.of(trial, trial.generator()), generator=trial.generator())
    torch.testing.assert_close(dense_of(segment, trial.terms), ours(trial), rtol=1e-9, atol=1e-9)


def test_where_no_points_are_drawn_both_steps_agree_by_themselves():
    gated = [
        marginal.Config(weight=Weight(shape="below", cut=0.5)),
        datapoint.Config(weight=Weight(shape="above", cut=0.5)),
    ]
    trial = trial_of("masked", gated, MixtureDenoiser)
    torch.testing.assert_close(dense(trial), ours(trial), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("system", SYSTEMS)
def test_its_teacher_steps_follow_the_exact_law(system):
    process = SYSTEMS[system][0].build(StateSpace(shape=(1,), num_states=S))
    num, states = 40_000, process.space.num_states
    seen = process.mask_id if system.startswith("masked") else 1
    log_p = torch.randn(states, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).log_softmax(
        0
    )
    law, x_t = log_p.expand(num, 1, states), torch.full((num, 1), seen)
    t, s = (torch.full((num,), time, dtype=torch.float64) for time in (0.6, 0.3))
    torch.manual_seed(0)
    counts = ancestral_step(process, law, x_t, t, s).flatten().bincount(minlength=states)
    exact = process.log_transition(law[:1], x_t[:1], t[:1], s[:1]).exp().flatten()
    torch.testing.assert_close(counts / num, exact.to(torch.float32), rtol=0, atol=0.01)


def test_losses_without_a_dense_form_are_named():
    assert foreign([marginal.Config(), sdtt.Config()]) == ["sdtt"]


@pytest.mark.parametrize("total", [ours, dense])
def test_losses_alone_leave_the_bodies_out(total):
    trial = trial_of("masked", list(LOSSES.values()), MixtureDenoiser)
    body = trial.cast.student.network.shared
    before = body.inner.weight.clone()
    seen = []
    body.register_forward_hook(lambda *call: seen.append(call))
    alone = Losses(trial)
    seen.clear()
    alone(total)
    assert not seen
    assert all(p.grad is None for p in trial.cast.student.parameters())
    assert torch.equal(body.inner.weight, before)


@pytest.mark.parametrize("system", ["masked", "gaussian", "uniform"])
def test_dense_samples_are_those_of_the_ancestral_sampler(system):
    """Frequencies of all points of a small space, beside ours, at three steps."""
    config, parameterization = SYSTEMS[system]
    process = config.build(StateSpace(shape=(2,), num_states=3))
    torch.manual_seed(0)
    network = MLP(width=8, depth=2, time=True).build(process.space, lam=False)
    torch.nn.init.normal_(network.out.weight, std=0.5)
    model = NetworkDenoiser(network, parameterized(parameterization, process))
    num, settings = 20_000, AncestralConfig()
    batch = Batch(torch.zeros(num, 2, dtype=torch.long))
    theirs = sampled(model, process, settings.times(3), batch)
    ours = sample(
        Ancestral(process), settings.plan(3, model), process, num, torch.Generator().manual_seed(1), "cpu"
    )
    counts = [(x @ torch.tensor([3, 1])).bincount(minlength=9) / num for x in (ours, theirs)]
    assert torch.allclose(*counts, atol=0.015)
