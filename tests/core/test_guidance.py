"""Guidance, given positions, fixed lambda and kept laws: what wraps the calls of a sampling run."""

import pytest
import torch

from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser, ProductDenoiser
from di4c_cli.core.guidance import Config as Guidance
from di4c_cli.core.guidance import Guided
from di4c_cli.core.metrics import known
from di4c_cli.core.metrics.nll_bound import call_nats
from di4c_cli.core.networks import mlp
from di4c_cli.core.parameterization import build
from di4c_cli.core.processes import masked
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import ancestral, network_calls, sample
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import Batch, StateSpace
from di4c_cli.core.students import windowed

SPACE = StateSpace(shape=(6,), num_states=3, num_classes=2)
PROCESS = masked.Config().build(SPACE)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class ByLabel(ProductDenoiser):
    """log p = table[label] at every position."""

    def __init__(self, table):
        self.table = table.log_softmax(-1)

    def __call__(self, x_t, t, label=None, *, generator=None):
        return ProductLaw.dense(self.table[label][:, None].expand(-1, x_t.shape[1], -1))


def mixture(time=False):
    torch.manual_seed(0)
    network = mlp.Config(width=16, depth=2, time=time, lam_std=2.0).build(PROCESS.space, lam=True)
    return MixtureDenoiser(network.double(), build("subs", PROCESS)).eval()


def test_guided_law_is_the_published_formula():
    table = torch.randn(3, 4, dtype=torch.float64, generator=seeded())
    x, label = torch.zeros(2, 6, dtype=torch.int64), torch.tensor([0, 1])
    law = Guided(ByLabel(table), 1.5, num_classes=2)(x, torch.ones(2), label, generator=seeded())
    wanted = (2.5 * table[label].log_softmax(-1) - 1.5 * table[2].log_softmax(-1)).log_softmax(-1)
    assert torch.allclose(law.log_p, wanted[:, None].expand_as(law.log_p))
    sites = Sites.where(torch.eye(*law.log_p.shape[:2]).bool())
    assert torch.equal(law.read(sites), law.log_p[sites.row, sites.position])


def test_both_calls_see_the_same_lambda():
    model = mixture()
    x, t, label = torch.full((5, 6), 3), torch.ones(5).double(), torch.tensor([0, 1, 0, 1, 0])
    guided = Guided(model, 2.0, num_classes=2)(x, t, label, generator=seeded(7)).log_p
    lam = torch.rand(5, generator=seeded(7), dtype=torch.float64)
    yes = model.component(x, t, lam, label).log_p
    no = model.component(x, t, lam, torch.full((5,), 2)).log_p
    assert torch.allclose(guided, (3 * yes - 2 * no).log_softmax(-1))
    assert not torch.allclose(yes, no)


@pytest.mark.parametrize("of_labels", [False, True])
def test_the_law_is_that_of_the_draws(of_labels):
    """By enumeration of one step from noise: shares of samples, and the law that a bound is read from."""
    space = StateSpace(shape=(2,), num_states=2, num_classes=2)
    process = masked.Config().build(space)
    torch.manual_seed(0)
    network = mlp.Config(width=16, depth=2, lam_std=2.0).build(process.space, lam=not of_labels)
    kind = NetworkDenoiser if of_labels else MixtureDenoiser
    guided = Guided(kind(network.double(), build("subs", process)).eval(), 3.0, num_classes=2)
    assert guided.law_known
    num = 20_000
    x_t, label = torch.full((num, 2), process.mask_id), torch.ones(num).long()
    drawn = guided(x_t, torch.ones(num).double(), label, generator=seeded()).draw(seeded(1))[:, 0]
    points = torch.tensor([[[0, 0], [0, 1], [1, 0], [1, 1]]])
    law = guided.law(x_t[:1], torch.ones(1).double(), label[:1], generator=seeded(), num_latents=500)
    wanted = law.log_joint(points)[0].exp()
    assert wanted.sum().item() == pytest.approx(1)
    shares = (drawn[:, None] == points).all(-1).double().mean(0)
    assert torch.allclose(shares, wanted, atol=4 / num**0.5)


def test_a_bound_stands_for_guided_plans_and_none_where_components_depend_on_the_label():
    plan = Guidance(scale=2.0).over(ancestral.Config().plan(3, mixture()), 2)
    x_0, label = torch.zeros(4, 6).long(), torch.tensor([0, 1, 0, 1])
    nats = call_nats(plan, PROCESS, x_0, seeded(), seeded(1), 8, label)
    assert nats.isfinite().all()
    assert known(plan)
    other = windowed.Config(window=[2]).build(mlp.Config(width=8, parameterization="subs"), PROCESS)
    assert not known(Guidance(scale=2.0).over(ancestral.Config().plan(3, other), 2))
    with pytest.raises(ValueError, match="under guidance"):
        Guided(other, 2.0, 2).law(x_0, torch.ones(4), label, generator=seeded())


def test_ramp_and_count_of_calls():
    model = ByLabel(torch.zeros(3, 4))
    plan = ancestral.Config().plan(5, model)
    weights = [
        getattr(call.denoiser, "scale", 0.0) for call in Guidance(scale=3, ramp="linear").over(plan, 2)
    ]
    assert weights == [0, 0.75, 1.5, 2.25, 3]
    assert network_calls(Guidance(scale=3, ramp="linear").over(plan, 2)) == 9  # the first call stays single
    assert network_calls(Guidance(scale=3).over(plan, 2)) == 10
    assert network_calls(Guidance().over(plan, 2)) == 5
    alone = Guidance(scale=3, ramp="linear").over(ancestral.Config().plan(1, model), 2)
    assert alone[0].denoiser.scale == 3


def test_guidance_draws_towards_the_class():
    table = torch.tensor([[2.0, 0, 0, -99], [0, 2.0, 0, -99], [0, 0, 0, -99]]).double()
    label = torch.arange(400) % 2
    config = ancestral.Config()
    shares = []
    for scale in (0.0, 2.0):
        plan = Guidance(scale=scale).over(config.plan(3, ByLabel(table)), 2)
        x = sample(config.build(PROCESS), plan, PROCESS, 400, seeded(), "cpu", label=label)
        shares.append((x == label[:, None]).double().mean().item())
    assert shares[0] < 0.85 < 0.95 < shares[1]


def test_given_positions_stay_and_are_seen_from_the_first_call():
    seen = []

    class Watching(ByLabel):
        def __call__(self, x_t, t, label=None, *, generator=None):
            seen.append(x_t.clone())
            return super().__call__(x_t, t, torch.zeros(len(x_t), dtype=torch.int64))

    known = torch.tensor([2, 1, -1, -1, -1, -1])
    config = ancestral.Config()
    plan = config.plan(4, Watching(torch.tensor([[5.0, 0, 0, -99]]).double()))
    x = sample(config.build(PROCESS), plan, PROCESS, 50, seeded(), "cpu", known=known)
    assert all((call[:, :2] == known[:2]).all() for call in seen)
    assert (seen[0][:, 2:] == PROCESS.mask_id).all()
    assert (x[:, :2] == known[:2]).all()
    assert (x[:, 2:] == 0).double().mean() > 0.9


def test_fixed_lambda_is_one_for_each_sample_and_fresh_for_each_run():
    model, seen = mixture(), []
    component = model.component

    def watched(x_t, t, lam, label=None):
        seen.append(lam)
        return component(x_t, t, lam, label)

    model.component = watched
    config = ancestral.Config(latent="fixed")
    sampler, generator = config.build(PROCESS), seeded()
    for _ in range(2):
        sample(sampler, config.plan(3, model), PROCESS, 8, generator, "cpu", config=config)
    first, second = seen[:3], seen[3:]
    assert all(torch.equal(lam, first[0]) for lam in first)
    assert all(torch.equal(lam, second[0]) for lam in second)
    assert not torch.equal(first[0], second[0])
    assert len(first[0].unique()) == 8
    seen.clear()
    fresh = ancestral.Config()
    sample(sampler, fresh.plan(3, model), PROCESS, 8, generator, "cpu", config=fresh)
    assert not torch.equal(seen[0], seen[1])


class TimeFree(NetworkDenoiser):
    """Counts its calls."""

    calls_made = 0

    def forward(self, x_t, t, label=None, *, generator=None):
        TimeFree.calls_made += 1
        return super().forward(x_t, t, label, generator=generator)


def test_kept_laws_change_nothing_and_save_calls():
    """More steps than positions: most change nothing. Same noise, same samples, fewer calls."""
    torch.manual_seed(0)
    network = mlp.Config(width=16, depth=2, time=False).build(PROCESS.space, lam=False).double()
    network.sees_time = False
    model = TimeFree(network, build("subs", PROCESS)).eval()
    samples, calls = [], []
    for cache in (False, True):
        TimeFree.calls_made = 0
        config = ancestral.Config(cache=cache)
        plan = config.plan(40, model)
        samples.append(sample(config.build(PROCESS), plan, PROCESS, 2, seeded(3), "cpu", config=config))
        calls.append(TimeFree.calls_made)
    assert torch.equal(*samples)
    assert calls[0] == 40
    assert calls[1] <= 13  # 12 positions, and the first call


def test_a_cache_that_would_not_be_exact_is_refused():
    timed = NetworkDenoiser(
        mlp.Config(width=16, depth=2).build(PROCESS.space, lam=False), build("subs", PROCESS)
    )
    with pytest.raises(ValueError, match="cache is exact only"):
        ancestral.Config(cache=True).plan(4, timed)
    free = mixture()
    free.network.sees_time = False
    with pytest.raises(ValueError, match="cache is exact only"):
        ancestral.Config(cache=True).plan(4, free)
    assert len(ancestral.Config(cache=True, latent="fixed").plan(4, free)) == 4


def test_labels_are_hidden_or_left_out():
    batch = Batch(torch.zeros(4000, 6, dtype=torch.int64), torch.ones(4000, dtype=torch.int64))
    assert batch.told(0, 0.5, seeded()).label is None
    assert torch.equal(batch.told(2, 0.0, seeded()).label, batch.label)
    hidden = batch.told(2, 0.3, seeded()).label
    assert set(hidden.tolist()) == {1, 2}
    assert abs((hidden == 2).double().mean() - 0.3) < 0.03
