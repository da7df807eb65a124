"""Temperature, as a wrapper around the calls of a plan."""

import pytest
import torch

from di4c_cli.core.codecs import states
from di4c_cli.core.datasets import toy
from di4c_cli.core.denoiser import MixtureDenoiser
from di4c_cli.core.metrics import Trial, nll_bound, tv
from di4c_cli.core.networks import mlp
from di4c_cli.core.parameterization import build
from di4c_cli.core.processes import masked
from di4c_cli.core.samplers import ancestral, network_calls, sample
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import NEVER, StateSpace
from di4c_cli.core.tempering import Tempered, at_temperature

PROCESS = masked.Config().build(StateSpace(shape=(4,), num_states=3))
MASK = PROCESS.mask_id


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture():
    torch.manual_seed(0)
    network = mlp.Config(width=16, depth=2, lam_std=2.0).build(PROCESS.space, lam=True)
    return MixtureDenoiser(network.double(), build("subs", PROCESS)).eval()


def laws(temperature):
    """The law of a mixture's component and its tempered one, of rows half open."""
    x, t = torch.tensor([[MASK, 0, MASK, 2], [MASK] * 4]), torch.full((2,), 0.7).double()
    model = mixture()
    plain = model(x, t, generator=seeded(5))
    return x, plain, Tempered(model, temperature)(x, t, generator=seeded(5))


def test_two_halves_the_logarithm_and_renormalises_each_position():
    x, plain, warm = laws(2.0)
    p = plain.log_p.exp().sqrt()
    assert torch.allclose(warm.log_p.exp(), p / p.sum(-1, keepdim=True))
    sites = Sites.where(x == MASK)
    assert torch.allclose(warm.read(sites), warm.log_p[sites.row, sites.position])


@pytest.mark.parametrize("temperature", [0.1, 0.5, 3.0, 1e7])
def test_the_impossible_and_the_settled_stay(temperature):
    x, plain, warm = laws(temperature)
    assert (warm.log_p[..., MASK] == NEVER).all()
    assert torch.equal(warm.log_p[0, [1, 3]], plain.log_p[0, [1, 3]])
    assert torch.equal(warm.settled, x)
    assert torch.equal(warm.mode()[x == MASK], plain.mode()[x == MASK])
    assert torch.allclose(warm.log_p.exp().sum(-1), torch.ones(2, 4).double())


def drawn(temperature):
    config = ancestral.Config()
    plan = at_temperature(config.plan(2, mixture()), temperature)
    return sample(config.build(PROCESS), plan, PROCESS, 300, seeded(3), "cpu", config=config)


def test_one_is_the_very_same_plan():
    plan = ancestral.Config().plan(3, mixture())
    assert at_temperature(plan, 1.0) is plan
    assert torch.equal(drawn(1.0), drawn(1.0))


def test_cold_samples_vary_less_than_warm_ones():
    kinds = [len(drawn(temperature).unique(dim=0)) for temperature in (0.05, 1.0, 5.0)]
    assert kinds == sorted(kinds)
    assert kinds[0] < kinds[-1] / 2


def test_calls_are_counted_and_a_denoiser_is_wrapped_once():
    plan = at_temperature(ancestral.Config().plan(3, mixture()), 0.9)
    assert network_calls(plan) == 3
    assert len({id(call.denoiser) for call in plan}) == 1


def test_figures_of_the_law_are_left_out(tmp_path):
    """A mixture at a temperature is known by draws only."""
    codec = states.Config(num_dims=4, num_states=3).build()
    data = toy.Config(joint="pairs", num=10).build(codec)
    plan = ancestral.Config().plan(2, mixture())
    for temperature, known in ((1.0, True), (0.9, False)):
        trial = Trial(
            samples=data.test.x_0,
            codec=codec,
            dataset=data,
            process=PROCESS,
            plan=at_temperature(plan, temperature),
            seed=0,
            cache=tmp_path,
        )
        for metric in (nll_bound.Config(num=4), tv.Config()):
            assert bool(metric.build()(trial)) == known
