"""The exact law of sampling runs of a windowed student, by brute force and by its draws."""

import itertools

import pytest
import torch

from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.metrics import tv
from di4c_cli.core.networks import mlp
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.samplers import Call, ancestral, sample
from di4c_cli.core.space import StateSpace
from di4c_cli.core.students.windowed import Config

CASES = [
    (4, 2, {"window": [2]}),
    (4, 2, {"window": [2], "chain": True, "tied": False}),
    (3, 3, {"window": [2], "chain": True}),
    (3, 3, {"window": [3], "layouts": 1, "gate": "prior"}),
]
case = pytest.mark.parametrize(("D", "S", "settings"), CASES)
calls = pytest.mark.parametrize("K", [1, 2, pytest.param(4, marks=pytest.mark.slow)])


def student_of(D, S, settings):
    process = MaskedProcess(StateSpace(shape=(D,), num_states=S))
    torch.manual_seed(0)
    config = Config(components=3, network="trained", **settings)
    student = config.build(mlp.Config(width=8, parameterization="subs"), process).double()
    for p in student.parameters():
        p.data += 0.7 * torch.randn_like(p)
    return process, student


def brute_force(plan, process, D, S):
    """Each call's law of x_0 over the data's points; then each open position is shown or not, one by one."""
    states = list(itertools.product(range(S + 1), repeat=D))
    points = torch.tensor(list(itertools.product(range(S), repeat=D)))
    mu = {(S,) * D: 1.0}
    for call in plan:
        after = dict.fromkeys(states, 0.0)
        for x_t, mass in mu.items():
            t = torch.tensor([call.t], dtype=torch.float64)
            law = call.denoiser.law(torch.tensor([x_t]), t, generator=torch.Generator())
            joint = law.log_joint(points[None])[0].exp().tolist()
            hidden = [d for d in range(D) if x_t[d] == S]
            stay = call.s / call.t  # the linear schedule
            for x_0, p in zip(points.tolist(), joint, strict=True):
                for kept in itertools.product([False, True], repeat=len(hidden)):
                    x_s = list(x_t)
                    for d, keeps in zip(hidden, kept, strict=True):
                        x_s[d] = S if keeps else x_0[d]
                    weight = stay ** sum(kept) * (1 - stay) ** (len(hidden) - sum(kept))
                    after[tuple(x_s)] += mass * p * weight
        mu = {x: mass for x, mass in after.items() if mass > 0}
    return torch.tensor([mu.get(x, 0.0) for x in states]).double().view((S + 1,) * D)


@case
@calls
@torch.no_grad()
def test_the_law_of_a_run_is_the_brute_force(D, S, settings, K, monkeypatch):
    process, student = student_of(D, S, settings)
    plan = ancestral.Config().plan(K, student)
    monkeypatch.setattr(tv, "POINTS", 10)
    law = tv.law_of_plan(plan, process, num_latents=1, chunk=7)
    assert torch.allclose(law, brute_force(plan, process, D, S), atol=1e-6)  # float32 sums in the brute force


@case
@calls
@torch.no_grad()
def test_draws_have_the_law_of_the_run(D, S, settings, K):
    process, student = student_of(D, S, settings)
    plan, num = ancestral.Config().plan(K, student), 20_000
    law = tv.law_of_plan(plan, process, num_latents=1, chunk=512)
    sampler = ancestral.Config().build(process)
    x = sample(sampler, plan, process, num, torch.Generator().manual_seed(0), "cpu")
    weight = torch.tensor([(S + 1) ** d for d in reversed(range(D))])
    counted = (x * weight).sum(-1).bincount(minlength=law.numel()).view_as(law) / num
    # Half the expected L1 distance of a true sample is 0.4 times the sum of the standard deviations.
    floor = 0.4 * (law * (1 - law) / num).sqrt().sum().item()
    assert tv.total_variation(counted, law) < 2 * floor


@torch.no_grad()
def test_one_window_over_everything_is_the_mixture():
    """The general way and that of mixtures of product laws agree."""
    process, student = student_of(3, 3, {"window": [3], "layouts": 1, "gate": "prior"})
    student.lam_codebooks[0].prior.data.fill_(0.3)

    class Mixture:
        def law(self, x_t, t, label=None, *, generator, num_latents=1):
            law = student.windowed(x_t, t, None, 0)
            rows = [law.component(torch.full((len(x_t), 1), j)).log_p for j in range(3)]
            return MixtureLaw.dense(torch.stack(rows, 1))

        def __call__(self, x_t, t, label=None, *, generator):
            raise NotImplementedError

        def law_of_draws(self, x, t, label=None, *, generator):
            raise NotImplementedError

    plan = ancestral.Config().plan(3, student)
    mixed = [Call(Mixture(), call.t, call.s) for call in plan]
    ours, theirs = (tv.law_of_plan(p, process, num_latents=1, chunk=50) for p in (plan, mixed))
    assert torch.allclose(ours, theirs, atol=1e-12)
