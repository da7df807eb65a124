"""Samplers against enumeration: the oracle's chain is the forward process backwards."""

import itertools

import pytest
import torch

from di4c_cli.core.codecs.states import Config as States
from di4c_cli.core.component import config_class, kinds
from di4c_cli.core.datasets import toy
from di4c_cli.core.metrics.tv import law_of_plan, total_variation
from di4c_cli.core.processes import gaussian, masked, uniform
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import (
    Call,
    analytic,
    ancestral,
    network_calls,
    per_row,
    predictor_corrector,
    sample,
    tau_leaping,
)
from di4c_cli.core.space import NEVER, StateSpace
from di4c_cli.core.teachers.exact import ExactDenoiser

PROCESSES = {
    "masked": masked.Config(),
    "arccos": masked.Config(schedule="arccos"),
    "loglinear": masked.Config(schedule="loglinear"),
    "cosine": masked.Config(schedule="cosine"),
    "gaussian": gaussian.Config(rate_sigma=1.5),
    "uniform": uniform.Config(),
}


@pytest.fixture(params=PROCESSES)
def config(request):
    return PROCESSES[request.param]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_square_z(counts, p):
    """Pearson's statistic, in standard deviations above its mean; rare cells are lumped."""
    expected = counts.sum() * p
    rare = expected < 5
    observed = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    if expected[-1] == 0:
        assert observed[-1] == 0
        observed, expected = observed[:-1], expected[:-1]
    df = max(1, len(expected) - 1)
    return ((((observed - expected) ** 2 / expected).sum() - df) / (2 * df) ** 0.5).item()


def index_of(x, num_states):
    """Points (n, D) as numbers in base S."""
    return sum(x[:, d] * num_states ** (x.shape[1] - 1 - d) for d in range(x.shape[1]))


def forward_law(process, joint, t):
    """q_t over all of S^D: the joint law pushed through the kernels, position by position."""
    states = torch.arange(process.space.num_states)[:, None]
    time = torch.full((len(states),), t, dtype=torch.float64)
    likelihood = process.log_likelihood(states, time).exp()[:, 0, : joint.shape[0]]  # [x_t, x_0]
    law = joint
    for _ in range(joint.dim()):
        law = torch.tensordot(law, likelihood, dims=([0], [1]))  # the first position moves to the end
    return law.flatten()


PRIOR = torch.tensor([[0.5, 0.3, 0.2], [0.05, 0.15, 0.8]], dtype=torch.float64)
INDEPENDENT = torch.einsum("a,b->ab", *PRIOR)
CHAIN = toy.markov(3, 3, 1.5, 7)


# the oracle and the exact posterior


def test_every_sampler_is_tested():
    here = ["analytic", "ancestral", "predictor_corrector", "tau_leaping"]
    revealing = ["halton", "maskgit"]  # tests/core/test_reveal_samplers.py
    assert kinds("samplers") == sorted(here + revealing)


def test_an_oracle_steps_back_through_the_forward_process(config):
    """Independent positions: a product law is exact, so x_s ~ q_s all the way from the prior to the data."""
    process = config.build(StateSpace(shape=(2,), num_states=3))
    oracle, n, generator = ExactDenoiser(process, INDEPENDENT), 20_000, seeded()
    sampler = ancestral.Config().build(process)
    x, S = process.sample_prior(n, generator, "cpu"), process.space.num_states
    for t, s in itertools.pairwise((1.0, 0.8, 0.35, 0.1)):
        x = sampler.step(oracle(x, per_row(t, x)), x, t, s, generator)[:, 0]
        counts = index_of(x, S).bincount(minlength=S**2)
        # the prior is q_1 up to 1e-3 in total variation, which this many draws do not see
        assert chi_square_z(counts, forward_law(process, INDEPENDENT, s)) < 4
    x = oracle(x, per_row(0.1, x)).draw(generator)[:, 0]
    assert chi_square_z(index_of(x, 3).bincount(minlength=9), INDEPENDENT.flatten()) < 4


def test_one_step_of_the_oracle_keeps_every_marginal(config):
    """Correlated positions: from x_t ~ q_t one step gives the one-position marginals of q_s."""
    process = config.build(StateSpace(shape=(3,), num_states=3))
    oracle, n, generator, S = ExactDenoiser(process, CHAIN), 20_000, seeded(1), process.space.num_states
    t, s = 0.8, 0.3
    q_t = forward_law(process, CHAIN, t)
    index = torch.multinomial(q_t, n, replacement=True, generator=generator)
    x_t = torch.stack(torch.unravel_index(index, (S,) * 3), -1)
    x_s = ancestral.Config().build(process).step(oracle(x_t, per_row(t, x_t)), x_t, t, s, generator)[:, 0]
    q_s = forward_law(process, CHAIN, s).view(S, S, S)
    for d, others in enumerate([(1, 2), (0, 2), (0, 1)]):
        assert chi_square_z(x_s[:, d].bincount(minlength=S), q_s.sum(others)) < 4
    # but not the joint: that is what the student is for
    assert chi_square_z(index_of(x_s, S).bincount(minlength=S**3), q_s.flatten()) > 10


def test_many_draws_from_one_x_t_are_independent(config):
    process = config.build(StateSpace(shape=(2,), num_states=3))
    oracle, S = ExactDenoiser(process, INDEPENDENT), process.space.num_states
    x_t = torch.full((2, 2), S - 1)
    x_t[0, 0] = 0
    law, t, s = (
        oracle(x_t, per_row(0.7, x_t)),
        torch.tensor([0.7, 0.7]).double(),
        torch.tensor([0.1, 0.5]).double(),
    )
    x_s = ancestral.Config().build(process).step(law, x_t, t, s, seeded(2), 8000)
    assert x_s.shape == (2, 8000, 2)
    p = process.log_transition(law.log_p, x_t, t, s).exp()
    for row in range(2):
        wanted = torch.einsum("a,b->ab", *p[row]).flatten()
        assert chi_square_z(index_of(x_s[row], S).bincount(minlength=S**2), wanted) < 4


# the analytic step


def test_the_analytic_step_is_the_law_of_ancestral_where_the_model_believes_in_the_unreachable():
    """At a small t most of x_0 cannot lead to x_t; a model may still give it weight: both draw from that."""
    process, S = gaussian.Config(time_base=3.0).build(StateSpace(shape=(1,), num_states=64)), 64
    x_t, zero = torch.tensor([[30]]), torch.zeros(1).double()
    log_p = torch.zeros(1, 1, S).double().log_softmax(-1)
    for t, s in ((0.02, 0.01), (0.005, 0.001), (0.7, 0.4)):
        t, s = torch.tensor([t]).double(), torch.tensor([s]).double()
        x_0 = torch.arange(S)[None]
        posterior = process.columns(x_t, t, s)[0, 0] * process.rows(x_0, s, zero)[0]
        wanted = (posterior / posterior.sum(-1, keepdim=True)).mean(0)
        found = process.log_transition(log_p, x_t, t, s)[0, 0].exp()
        assert (found - wanted).abs().sum() < 1e-9


def test_the_analytic_step_is_sedds_formula_and_the_law_of_ancestral(config):
    """Scores from a denoiser, exp(-dsigma Q) by inverting the kernel, and what ancestral draws."""
    process = config.build(StateSpace(shape=(1,), num_states=3))
    S, t, s = process.space.num_states, 0.7, 0.4
    times = (torch.full((S,), u, dtype=torch.float64) for u in (t, s))
    x_t = torch.arange(S)[:, None]
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    log_p = torch.full((S, 1, S), NEVER, dtype=torch.float64)
    log_p[..., :3] = p.log()
    if process.space.mask_id is not None:  # what is visible is certain
        log_p = log_p.where(
            x_t[..., None] == process.mask_id,
            torch.full_like(log_p, NEVER).scatter(-1, x_t[..., None], 0.0),
        )
    everywhere = torch.arange(S)[:, None]
    q_t = process.log_likelihood(everywhere, torch.full((S,), t).double()).exp()[:, 0].T  # [x_0, x_t]
    q_s = process.log_likelihood(everywhere, torch.full((S,), s).double()).exp()[:, 0].T
    if process.space.mask_id is not None:
        q_t[process.mask_id], q_s[process.mask_id] = torch.eye(S).double()[process.mask_id].expand(2, -1)
    step = torch.linalg.solve(q_s, q_t)  # q_{t|s}, since q_t = q_s q_{t|s}
    sampler = analytic.Config().build(process)
    law = ProductLaw.dense(log_p)
    drawn = sampler.step(law, x_t, *times, seeded(), num=20_000)
    for row in range(S):
        p_row = log_p[row, 0].exp()
        if (p_row * q_t[:, row]).sum() == 0:
            continue
        score = (p_row / q_t[:, row].clamp(min=1e-300)).nan_to_num(posinf=0.0) @ q_t
        back = torch.linalg.solve(step.T, score)  # exp(-dsigma Q) score
        wanted = back * step[:, row]
        wanted = wanted.clamp(min=0) / wanted.clamp(min=0).sum()
        assert chi_square_z(drawn[row, :, 0].bincount(minlength=S), wanted) < 4
        by_way_of_x_0 = (
            ancestral.Config()
            .build(process)
            .step(ProductLaw.dense(log_p[row : row + 1]), x_t[row : row + 1], t, s, seeded(1), 20_000)
        )
        assert chi_square_z(by_way_of_x_0[0, :, 0].bincount(minlength=S), wanted) < 4


# tau-leaping


SLOW = ["gaussian", "uniform"]


def leap_error(config, steps, n=20_000):
    """Total variation between tau-leaping samples of the oracle and correlated data."""
    process = config.build(StateSpace(shape=(3,), num_states=3))
    settings = tau_leaping.Config()
    plan = settings.plan(steps, ExactDenoiser(process, CHAIN))
    x = sample(settings.build(process), plan, process, n, seeded(3), "cpu")
    assert x.max() < 3
    return total_variation(index_of(x, 3).bincount(minlength=27) / n, CHAIN.flatten())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masked", *SLOW])
def test_tau_leaping_comes_to_the_exact_law_with_many_steps(name):
    few, many = leap_error(PROCESSES[name], 2), leap_error(PROCESSES[name], 64)
    assert many < 0.03  # of which the counting noise of so many draws is about 0.01
    assert few > 5 * many


def test_leaps_of_ordered_states_add_up_and_stay_inside():
    """With R constant over the step the jumps are Poisson: mean displacement = sum of rates times jumps."""
    process = gaussian.Config(rate_sigma=1.5).build(StateSpace(shape=(1,), num_states=9))
    law = ProductLaw.dense(torch.zeros(1, 1, 9).double().log_softmax(-1))
    x_t, t, h = torch.tensor([[4]]), 0.5, 0.003
    rates = process.reverse_rates(law.log_p, x_t, per_row(t, x_t))[0, 0] * h
    x_s = tau_leaping.Config().build(process).step(law, x_t, t, t - h, seeded(), 50_000)[0, :, 0]
    moves = (x_s - 4).double()
    jumps = (torch.arange(9) - 4).double()
    assert moves.mean().item() == pytest.approx((rates * jumps).sum().item(), abs=0.02)
    assert moves.var().item() == pytest.approx((rates * jumps**2).sum().item(), rel=0.05)
    far = tau_leaping.Config().build(process).step(law, x_t, 1.0, 0.0, seeded(), 1000)
    assert (far.amin(), far.amax()) == (0, 8)  # clamped


def test_unordered_states_jump_once_at_most():
    """P(no jump) = exp(-total rate), and the target in proportion to its rate."""
    process = uniform.Config().build(StateSpace(shape=(1,), num_states=4))
    log_p = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]).double().log()
    x_t = torch.tensor([[2]])
    expected = process.reverse_rates(log_p, x_t, per_row(0.8, x_t))[0, 0] * 0.3
    wanted = (1 - torch.exp(-expected.sum())) * expected / expected.sum()
    wanted[2] = torch.exp(-expected.sum())
    sampler = tau_leaping.Config().build(process)
    x_s = sampler.step(ProductLaw.dense(log_p), x_t, 0.8, 0.5, seeded(), 20_000).flatten()
    assert chi_square_z(x_s.bincount(minlength=4), wanted) < 4


# plans


def test_times_of_a_plan():
    assert ancestral.Config().times(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert ancestral.Config().times(1) == [1.0, 0.0]
    assert ancestral.Config(t_last=0.01).times(4) == pytest.approx([1.0, 0.67, 0.34, 0.01, 0.0])
    assert ancestral.Config(t_last=0.01).times(1) == [1.0, 0.0]


class Certain:
    """Remembers what it is called with; half of the mass is on state 1, less on the others."""

    def __init__(self):
        self.calls = []

    def __call__(self, x_t, t, label=None, *, generator):
        self.calls.append((x_t.clone(), t, label))
        log_p = torch.tensor([0.3, 0.5, 0.2, 0.0]).double().log().clamp(min=NEVER)
        return ProductLaw.dense(log_p.expand(*x_t.shape, 4))

    def law(self, x_t, t, label=None, *, generator, num_latents=1):
        raise NotImplementedError

    def law_of_draws(self, x, t, label=None, *, generator):
        raise NotImplementedError


@pytest.mark.parametrize("kind", ["ancestral", "tau_leaping"])
def test_plans_and_hybrids(kind):
    settings = config_class("samplers", kind)()
    model, teacher = Certain(), Certain()
    plan = settings.plan(4, model, teacher, by_teacher=[3])
    assert [call.denoiser for call in plan] == [model, model, model, teacher]
    assert [(call.t, call.s) for call in plan] == [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    assert all(call.denoiser is model for call in settings.plan(4, model, teacher))
    assert all(call.denoiser is teacher for call in settings.plan(2, model, teacher, by_teacher=range(2)))


def test_the_last_call_draws_or_takes_the_mode():
    process = masked.Config().build(StateSpace(shape=(6,), num_states=3))
    sampler, model = ancestral.Config().build(process), Certain()
    plan = [Call(model, 1.0, 0.4), Call(model, 0.4, 0.0)]
    label = torch.arange(500)
    modes = sample(
        sampler, plan, process, 500, seeded(), "cpu", config=ancestral.Config(final="argmax"), label=label
    )
    before_last = model.calls[1][0]
    assert torch.equal(modes, torch.where(before_last == 3, 1, before_last))  # what is visible stays
    assert (before_last == 3).any()
    drawn = sample(sampler, plan, process, 500, seeded(), "cpu")
    assert chi_square_z(drawn.flatten().bincount(minlength=3), torch.tensor([0.3, 0.5, 0.2]).double()) < 4
    assert len(model.calls) == 4  # one network call a step
    assert [t[0].item() for _, t, _ in model.calls] == [1.0, 0.4] * 2
    assert (model.calls[0][0] == 3).all()
    assert torch.equal(model.calls[0][2], label)
    assert torch.equal(drawn, sample(sampler, plan, process, 500, seeded(), "cpu"))  # seeds repeat


# theory: how a product model's error falls with its steps, exactly


def exact_tv(joint, num_dims, num_states, steps):
    """Total variation of the K-step law of the exact product teacher, masked process, linear schedule."""
    codec = States(num_dims=num_dims, num_states=num_states).build()
    data = toy.Config(joint=joint, num=1).build(codec).joint
    process = masked.Config().build(codec.space)
    plan = ancestral.Config().plan(steps, ExactDenoiser(process, data))
    law = law_of_plan(plan, process, num_latents=1, chunk=512)
    target = torch.zeros_like(law)
    target[(slice(num_states),) * num_dims] = data
    return total_variation(law, target)


def test_error_of_the_product_model_on_pairs():
    """A pair appears in one step with probability 1/K, and is then wrong with probability 1 - 1/S."""
    for K in (1, 2, 3, 4, 5, 8, 16, 33, 64):
        assert exact_tv("pairs", 4, 2, K) == pytest.approx(1 - (1 - 0.5 / K) ** 2, abs=1e-6)
    for K in (1, 2, 5):
        assert exact_tv("pairs", 4, 3, K) == pytest.approx(1 - (1 - (2 / 3) / K) ** 2, abs=1e-6)
        assert exact_tv("pairs", 6, 2, K) == pytest.approx(1 - (1 - 0.5 / K) ** 3, abs=1e-6)


@pytest.mark.parametrize(
    ("joint", "num_dims", "num_states"),
    [
        *(("pairs", 4, 2), ("markov", 5, 3)),
        *(pytest.param(joint, 5, 3, marks=pytest.mark.slow) for joint in ("parity", "sparse")),
    ],
)
def test_error_of_the_product_model_falls_as_one_over_k(joint, num_dims, num_states):
    scaled = {K: K * exact_tv(joint, num_dims, num_states, K) for K in (1, 64, 128)}
    assert scaled[64] == pytest.approx(scaled[128], rel=0.05)
    assert scaled[1] < 0.9 * scaled[128]
    if joint == "markov":
        assert scaled[1] == pytest.approx(0.724, abs=1e-3)


# predictor-corrector


@pytest.mark.parametrize("name", ["masked", "gaussian", "uniform"])
def test_correctors_keep_q_t(name):
    """From x ~ q_t, many corrector leaps of the oracle leave q_t: its stationary law."""
    process = PROCESSES[name].build(StateSpace(shape=(2,), num_states=3))
    oracle, n, generator, S = ExactDenoiser(process, INDEPENDENT), 20_000, seeded(5), process.space.num_states
    sampler = predictor_corrector.Config().build(process)
    t = 0.3
    q_t = forward_law(process, INDEPENDENT, t)
    index = torch.multinomial(q_t, n, replacement=True, generator=generator)
    start = torch.stack(torch.unravel_index(index, (S, S)), -1)
    x = start
    rate = process.forward_rates(x, per_row(t, x)).sum(-1).mean()
    for _ in range(20):
        x = sampler.correct(oracle(x, per_row(t, x)), x, t, 0.05 / rate.item(), generator)
    assert (x != start).double().mean() > 0.2  # it moves,
    assert total_variation(index_of(x, S).bincount(minlength=S**2) / n, q_t) < 0.04  # and stays q_t


def test_correctors_are_planned_at_small_t_and_counted():
    process = PROCESSES["gaussian"].build(StateSpace(shape=(3,), num_states=3))
    config = predictor_corrector.Config(correctors=3, correct_below=0.4, t_last=0.1)
    plan = config.plan(4, ExactDenoiser(process, CHAIN))
    assert [round(call.t, 6) for call in plan] == [1, 0.7, 0.4, 0.4, 0.4, 0.4, 0.1, 0.1, 0.1, 0.1]
    leaps = [call.leap for call in plan if call.leap is not None]
    assert leaps == pytest.approx([0.45] * 6)
    assert network_calls(plan) == 10


@pytest.mark.slow
def test_correctors_bring_samples_nearer_the_data():
    process = PROCESSES["gaussian"].build(StateSpace(shape=(3,), num_states=3))
    errors = []
    for settings in (tau_leaping.Config(), predictor_corrector.Config(correct_below=0.6)):
        sampler, steps = settings.build(process), settings.plan(12, ExactDenoiser(process, CHAIN))
        x = sample(sampler, steps, process, 20_000, seeded(6), "cpu")
        errors.append(total_variation(index_of(x, 3).bincount(minlength=27) / 20_000, CHAIN.flatten()))
    assert errors[1] < errors[0]
