"""Forward processes against kernels written out by hand, Bayes' rule, and published numbers."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from di4c_cli.core.processes import gaussian, masked, uniform
from di4c_cli.core.processes.gaussian import GaussianProcess, base_generator, stationary_law
from di4c_cli.core.space import NEVER, StateSpace

GOLDEN = Path(__file__).parent / "golden" / "tauldr.safetensors"
T, U = 0.7, 0.25  # t and s of most tests


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_square_z(counts, p):
    """Pearson's statistic, in standard deviations above its mean; impossible cells must be empty."""
    possible = p > 1e-12
    assert counts[~possible].sum() == 0
    counts, expected = counts[possible], counts.sum() * p[possible]
    statistic = ((counts - expected) ** 2 / expected).sum()
    df = max(1, int(possible.sum()) - 1)
    return ((statistic - df) / (2 * df) ** 0.5).item()


# kernels by hand: q_{t|s} as a matrix [x_s, x_t]


MASKED_SHARE = {
    "linear": lambda t: t,
    "loglinear": lambda t: 0.999 * t,
    "arccos": lambda t: 2 / math.pi * math.acos(1 - t),
    "cosine": lambda t: math.cos(math.pi / 2 * (1 - t)),
}


def masked_kernel(schedule):
    def kernel(process, t, s):
        S = process.space.num_states
        stay = (1 - MASKED_SHARE[schedule](t)) / (1 - MASKED_SHARE[schedule](s))
        q = stay * torch.eye(S, dtype=torch.float64)
        q[:, S - 1] += 1 - stay
        return q

    return kernel


def uniform_kernel(schedule):
    def kernel(process, t, s):
        S = process.space.num_states
        stay = (1 - 0.999 * MASKED_SHARE[schedule](t)) / (1 - 0.999 * MASKED_SHARE[schedule](s))
        return stay * torch.eye(S, dtype=torch.float64) + (1 - stay) / S

    return kernel


def gaussian_generator(S, rate_sigma, target_sigma):
    """The generator by the double loop of its definition."""
    pi = [math.exp(-(((k + 1) - S / 2) ** 2) / (2 * target_sigma**2)) for k in range(S)]
    R = [[0.0] * S for _ in range(S)]
    for i in range(S):
        inner = range(i + 1, S - i) if i < S / 2 else range(S - i, i) if i > S / 2 else ()
        for j in inner:
            R[i][j] = math.exp(-(((abs(i - j) - 1) / rate_sigma) ** 2))
    for i in range(S):
        for j in range(S):
            if i != j and R[j][i] > 0 and R[i][j] == 0:
                R[i][j] = R[j][i] * pi[j] / pi[i]
    for i in range(S):
        R[i][i] = -sum(R[i])
    return tensor(*R)


def gaussian_kernel(process, t, s):
    duration = process.time_base * (100.0**t - 100.0**s)
    return torch.linalg.matrix_exp(duration * gaussian_generator(process.space.num_states, 2.0, 3.0))


SPACE = StateSpace(shape=(1,), num_states=5)
CASES = {
    **{name: (masked.Config(schedule=name), masked_kernel(name)) for name in MASKED_SHARE},
    "uniform": (uniform.Config(), uniform_kernel("linear")),
    **{
        f"uniform {name}": (uniform.Config(schedule=name), uniform_kernel(name))
        for name in [*MASKED_SHARE][1:]
    },
    "gaussian": (gaussian.Config(rate_sigma=2.0, target_sigma=3.0), gaussian_kernel),
}


@pytest.fixture(params=CASES)
def case(request):
    """A process of one position, and its kernel by hand."""
    config, kernel = CASES[request.param]
    process = config.build(SPACE)
    return process, lambda t, s=0.0: kernel(process, t, s)


def data_states(process):
    """States that data can be in: all but the mask."""
    return [k for k in range(process.space.num_states) if k != process.space.mask_id]


def all_pairs(process, kernel, t):
    """Every (x_0, x_t) that can be, as columns."""
    q = kernel(t)
    pairs = [(k, x) for k in data_states(process) for x in range(len(q)) if q[k, x] > 0]
    return torch.tensor(pairs).split(1, 1)


def bayes(kernel, t, s):
    """q(x_s | x_0, x_t) as a table [x_0, x_t, x_s]."""
    joint = kernel(s)[:, None, :] * kernel(t, s).T[None]
    return joint / kernel(t)[:, :, None]


def random_law(process, rows, seed=0):
    """A random log p(x_0) for each row, none of it on the mask."""
    log_p = torch.randn(rows, 1, process.space.num_states, generator=seeded(seed), dtype=torch.float64)
    if process.space.mask_id is not None:
        log_p[..., process.space.mask_id] = NEVER
    return log_p.log_softmax(-1)


def times(value, rows):
    return torch.full((rows,), value, dtype=torch.float64)


def test_kernels_compose(case):
    """q_{t|s} q_{s|0} = q_{t|0}, of the kernels by hand."""
    _, kernel = case
    assert torch.allclose(kernel(U) @ kernel(T, U), kernel(T), atol=1e-14)
    assert torch.allclose(kernel(T).sum(1), torch.ones(len(kernel(T))).double())


def test_log_likelihood_is_a_column_of_the_kernel(case):
    process, kernel = case
    for t in (0.0, U, T, 1.0):
        x = torch.arange(process.space.num_states)[:, None]
        likelihood = process.log_likelihood(x, times(t, len(x))).exp()[:, 0]
        states = data_states(process)
        assert torch.allclose(likelihood[:, states], kernel(t)[states].T, atol=1e-12)


def test_rows_and_columns_are_the_kernel():
    for name in ("uniform", "gaussian"):
        config, kernel = CASES[name]
        process = config.build(SPACE)
        x = torch.arange(5)[:, None]
        args = (x, times(T, 5), times(U, 5))
        assert torch.allclose(process.rows(*args)[:, 0], kernel(process, T, U), atol=1e-12)
        assert torch.allclose(process.columns(*args)[:, 0], kernel(process, T, U).T, atol=1e-12)
        both = process.push(process.rows(x, times(U, 5), times(0.0, 5)), times(T, 5))
        assert torch.allclose(both[:, 0], kernel(process, U, 0) @ kernel(process, T, 0), atol=1e-12)


def test_forward_draws_follow_the_kernel(case):
    process, kernel = case
    n = 4000
    for x_0 in data_states(process):
        x_t = process.sample_forward(torch.full((n, 1), x_0), times(T, n), seeded(x_0))
        assert chi_square_z(x_t.flatten().bincount(minlength=len(kernel(T))), kernel(T)[x_0]) < 4


def test_posterior_of_a_known_x_0_is_bayes(case):
    process, kernel = case
    x_0, x_t = all_pairs(process, kernel, T)
    one_hot = (
        torch.full((len(x_0), 1, process.space.num_states), NEVER).double().scatter(-1, x_0[..., None], 0)
    )
    for s in (0.0, U, 0.69):
        step = process.log_transition(one_hot, x_t, times(T, len(x_0)), times(s, len(x_0))).exp()
        expected = bayes(kernel, T, s)[x_0.flatten(), x_t.flatten()]
        assert torch.allclose(step[:, 0], expected, atol=1e-12)


def test_posterior_draws_are_bayes(case):
    process, kernel = case
    n = 3000
    for x_0, x_t in torch.cat(all_pairs(process, kernel, T), 1).tolist():
        start, end = torch.full((n, 1), x_0), torch.full((n, 1), x_t)
        x_s = process.sample_posterior(start, end, times(T, n), times(U, n), seeded(7 * x_0 + x_t))
        counts = x_s.flatten().bincount(minlength=len(kernel(T)))
        assert chi_square_z(counts, bayes(kernel, T, U)[x_0, x_t]) < 4.5


def test_reverse_step_of_a_law_sums_its_posteriors(case):
    """sum_k p(k) q(x_s | k, x_t), and it is a law."""
    process, kernel = case
    S = process.space.num_states
    x_t = torch.arange(S)[:, None]
    log_p = random_law(process, S)
    if process.space.mask_id is not None:  # what is visible is known
        log_p[:-1] = torch.where(torch.eye(S).bool()[:-1, None], 0.0, NEVER).double()
    for s in (0.0, U, 0.69):
        step = process.log_transition(log_p, x_t, times(T, S), times(s, S)).exp()[:, 0]
        assert torch.allclose(step.sum(-1), torch.ones(S).double(), atol=1e-12)
        posterior = bayes(kernel, T, s).nan_to_num(0)
        expected = torch.stack([log_p[x, 0].exp() @ posterior[:, x] for x in range(S)])
        assert torch.allclose(step, expected, atol=1e-12)


SHORT_AND_LONG = ((T, U), (T, 0.69), (T, 0.0), (1.0, 0.4), (1.0, 1e-4), (1.0, 0.0), (1e-2, 1e-6))


@pytest.mark.parametrize(("t", "s"), SHORT_AND_LONG)
def test_posterior_of_every_x_0_is_the_reverse_step_of_a_law_certain_of_it(case, t, s):
    process, _ = case
    S = process.space.num_states
    certain = torch.where(torch.eye(S).bool(), 0.0, NEVER).double()
    x_s, x_t = torch.cartesian_prod(torch.arange(S), torch.arange(S)).split(1, 1)
    got = process.log_posterior(x_s, x_t, times(t, S * S), times(s, S * S))
    assert got.dtype == torch.float64
    for k in range(S):
        step = process.log_transition(certain[k].expand(S * S, 1, S), x_t, times(t, S * S), times(s, S * S))
        expected = step.gather(-1, x_s[..., None])[..., 0]
        assert torch.allclose(got[..., k].exp(), expected.exp(), rtol=1e-9, atol=1e-14)


def test_posteriors_of_a_law_add_up_to_its_reverse_step(case):
    """Many positions, each row at times of its own; a law may give a mask some probability."""
    process = case[0]
    S, (t, s) = process.space.num_states, tensor(*SHORT_AND_LONG).T.repeat(1, 40)
    x_s, x_t = torch.randint(S, (2, len(t), 3), generator=seeded())
    log_p = torch.randn(len(t), 3, S, generator=seeded(1), dtype=torch.float64).log_softmax(-1)
    got = (log_p + process.log_posterior(x_s, x_t, t, s)).logsumexp(-1)
    expected = process.log_transition(log_p, x_t, t, s).gather(-1, x_s[..., None])[..., 0]
    possible = expected > -50
    assert possible.double().mean() > 0.2
    assert torch.allclose(got[possible], expected[possible], rtol=0, atol=1e-9)
    assert (got[~possible] < -50).all()


def test_a_mask_that_is_predicted_stays_a_mask():
    """Logits that are not SUBS give the mask a little: the reverse step is still a law."""
    process = masked.Config().build(SPACE)
    log_p = torch.randn(1, 1, 6, generator=seeded()).double().log_softmax(-1)
    step = process.log_transition(log_p, torch.tensor([[5]]), tensor(0.8), tensor(0.2)).exp().flatten()
    assert step.sum().item() == pytest.approx(1)
    assert step[5].item() == pytest.approx(0.25 + 0.75 * log_p[0, 0, 5].exp().item())


def test_reverse_rates_are_the_limit_of_short_steps(case):
    process, _ = case
    S = process.space.num_states
    x_t = torch.arange(S)[:, None]
    log_p = random_law(process, S)
    rates = process.reverse_rates(log_p, x_t, times(T, S))
    assert (rates.gather(-1, x_t[..., None]) == 0).all()
    assert (rates >= 0).all()
    h = 1e-7
    step = process.log_transition(log_p, x_t, times(T, S), times(T - h, S)).exp()
    limit = (step / h).scatter(-1, x_t[..., None], 0)
    assert torch.allclose(rates, limit, rtol=1e-4, atol=1e-4)
    assert rates.sum() > 0.1


def test_reverse_rates_by_the_formula_of_tauldr():
    """R_t(k, x) sum_j p(j) q_t(k | j) / q_t(x | j)."""
    for name in ("uniform", "gaussian"):
        config, kernel = CASES[name]
        process = config.build(SPACE)
        h = 1e-7
        R = (kernel(process, T + h, T) - torch.eye(5)) / h
        q, p = kernel(process, T, 0), random_law(process, 1).exp().flatten()
        for x in range(5):
            rates = process.reverse_rates(p.log().view(1, 1, 5), torch.tensor([[x]]), tensor(T)).flatten()
            into = process.rate_columns(torch.tensor([[x]]), tensor(T)).flatten()
            assert torch.allclose(into, R[:, x], rtol=1e-5)  # the diagonal included
            expected = R[:, x] * ((p / q[:, x]) @ q)
            expected[x] = 0
            assert torch.allclose(rates, expected, rtol=1e-5)


def test_prior_is_where_the_forward_process_ends(case):
    process, kernel = case
    S = process.space.num_states
    prior = process.prior_probs()
    assert prior.sum().item() == pytest.approx(1)
    end = kernel(1.0)[data_states(process)]
    assert (end - prior).abs().sum(1).max() / 2 < 2e-3
    x_1 = process.sample_prior(4000, seeded(), "cpu")
    assert x_1.shape == (4000, 1)
    assert chi_square_z(x_1.flatten().bincount(minlength=S), prior) < 4


def test_rows_have_their_own_times(case):
    process, _ = case
    t, s = tensor(0.3, 0.9, 0.3), tensor(0.1, 0.2, 0.05)
    x_t = torch.full((3, 1), process.space.num_states - 1)
    log_p = random_law(process, 3)
    together = process.log_transition(log_p, x_t, t, s)
    for i in range(3):
        alone = process.log_transition(log_p[i, None], x_t[i, None], t[i, None], s[i, None])
        assert torch.allclose(together[i].exp(), alone[0].exp(), atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_positions_are_independent(name):
    config, _ = CASES[name]
    one, three = (config.build(StateSpace(shape=(D,), num_states=5)) for D in (1, 3))
    x_t = torch.tensor([[0, one.space.num_states - 1, 2]])
    log_p = random_law(one, 3).transpose(0, 1)
    together = three.log_transition(log_p, x_t, tensor(T), tensor(U))
    for d in range(3):
        alone = one.log_transition(log_p[:, [d]], x_t[:, [d]], tensor(T), tensor(U))
        assert torch.allclose(together[:, [d]].exp(), alone.exp(), atol=1e-13)


# masked


def test_schedules_of_the_masked_share():
    """MaskGIT's arccos at progress r = 1 - t, and the ends of all schedules."""
    arccos = masked.Config(schedule="arccos").build(SPACE)
    golden = {0.05: 0.968156, 0.25: 0.839139, 0.5: 0.666667, 0.75: 0.460107, 0.9: 0.287133, 0.95: 0.202165}
    for r, m in golden.items():
        assert arccos.mask_prob(tensor(1 - r)).item() == pytest.approx(m, abs=1e-6)
    for name in MASKED_SHARE:
        process = masked.Config(schedule=name).build(SPACE)
        ends = process.mask_prob(tensor(0.0, 1.0)).tolist()
        assert ends == pytest.approx([0, 0.999 if name == "loglinear" else 1])
        t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64).requires_grad_()
        (rate,) = torch.autograd.grad(process.mask_prob(t).sum(), t, allow_unused=True)
        assert torch.allclose(process.mask_rate(t), rate)


def test_what_is_visible_is_frozen():
    process = masked.Config().build(StateSpace(shape=(4,), num_states=3))
    x_t = torch.tensor([[0, 3, 2, 3]]).expand(200, -1)
    x_0 = torch.tensor([[1, 1, 1, 1]]).expand(200, -1)
    x_s = process.sample_posterior(x_0, x_t, times(0.9, 200), times(0.3, 200), seeded())
    assert (x_s[:, [0, 2]] == x_t[:, [0, 2]]).all()
    assert set(x_s[:, [1, 3]].flatten().tolist()) == {1, 3}
    assert (
        process.reverse_rates(random_law(process, 200).expand(-1, 4, -1), x_t, times(0.9, 200))[:, 0] == 0
    ).all()


# gaussian: the numbers of the paper's process, S = 256


@pytest.fixture(scope="module")
def paper():
    return GaussianProcess(StateSpace(shape=(1,), num_states=256))


def paper_kernel(process, t, s=0.0):
    q, which = process.kernels(tensor(t), tensor(s))
    return q[which[0]]


def test_stationary_law_of_the_paper(paper):
    golden = {0: 0.97982, 127: 1.01043, 255: 0.97934}
    for k, value in golden.items():
        assert 256 * paper.pi[k].item() == pytest.approx(value, abs=5e-6)


def test_generator_of_the_paper(paper):
    R = paper.rate_base
    golden = {
        (0, 0): [-5.81736155, 1, 0.97260448, 0.89483932, 0.77880078, 0.64118039],
        (100, 98): [0.97239673, 0.9998951, -11.63201754, 1, 0.97260448],
        (127, 125): [0.97259706, 0.99999809, -11.63420105, 1, 0.97259706],
        (128, 127): [1.00000191, -11.63419914, 0.99999428],
        (255, 253): [0.97260448, 1, -5.81736155],
    }
    for (i, j), values in golden.items():
        assert R[i, j : j + len(values)].tolist() == pytest.approx(values, abs=1e-8)
    flow = paper.pi[:, None] * R
    assert (flow - flow.T).abs().max() < 1e-16  # reversible
    assert (paper.pi @ R).abs().max() < 1e-15  # stationary


def test_generator_is_its_definition():
    for S in (2, 5, 8, 17):
        by_hand = gaussian_generator(S, 3.0, 20.0)
        assert torch.allclose(base_generator(S, 3.0, stationary_law(S, 20.0)), by_hand, atol=1e-13)


def test_eigenvalues_of_the_paper(paper):
    values = torch.linalg.eigvals(paper.rate_base).real.sort(descending=True).values
    assert values[:3].tolist() == pytest.approx([0, -0.0209204, -0.0826559], abs=1e-7)
    assert values[-1].item() == pytest.approx(-12.87015, abs=1e-5)


def test_clock_of_the_paper(paper):
    assert paper.time_base == pytest.approx(3.0, rel=1e-12)
    t = tensor(0.01, 0.1, 0.5, 1.0)
    assert paper.integrated_rate(t).tolist() == pytest.approx([0.1413856, 1.7546796, 27, 297], rel=1e-6)
    assert paper.rate_scale(t).tolist() == pytest.approx([14.4666, 21.8961, 138.1551, 1381.5511], rel=1e-5)


def test_transitions_of_the_paper(paper):
    first = paper_kernel(paper, 0.01)
    assert first[0, :3].tolist() == pytest.approx([0.46121851, 0.07735235, 0.07342258], abs=1e-8)
    diagonal = {0.01: 0.21939852, 0.1: 0.01848969, 0.5: 0.00497925, 1.0: 0.00394323}
    for t, value in diagonal.items():
        assert paper_kernel(paper, t)[100, 100].item() == pytest.approx(value, abs=1e-8)
    end = paper_kernel(paper, 1.0)
    distance = (end - paper.pi).abs().sum(1) / 2
    assert distance[0].item() == pytest.approx(1.28e-3, abs=5e-6)
    assert distance[127].item() == pytest.approx(7.7e-6, abs=5e-8)


def test_transitions_of_the_published_code(paper):
    """Eight rows of its float32 kernels, in which entries below 1e-8 are set to 0."""
    golden = load_file(GOLDEN)
    rows = golden["rows"]
    assert (paper.rate_base[rows] - golden["rate_base"]).abs().max() < 1e-6
    for t, q in zip(golden["t"].tolist(), golden["q_t0"], strict=True):
        assert (paper_kernel(paper, t)[rows] - q).abs().max() < 1e-6
    for (t, s), q in zip(((0.4, 0.1), (0.9, 0.85)), golden["q_ts"], strict=True):
        assert (paper_kernel(paper, t, s)[rows] - q).abs().max() < 1e-6


def test_kernels_compose_at_full_size(paper):
    assert torch.allclose(
        paper_kernel(paper, U) @ paper_kernel(paper, T, U), paper_kernel(paper, T), atol=1e-13
    )


@pytest.mark.parametrize("t", [1e-3, 0.01, 0.1])
def test_states_out_of_reach_do_not_blow_up(paper, t):
    """A denoiser gives some probability to x_0 that q_{t|0} cannot lead to x_t (far below 1e-16)."""
    x_t = torch.tensor([[0], [100], [200]])
    near = -(((torch.arange(256) - x_t[..., None]) / 10.0) ** 2)
    log_p = torch.logaddexp(near, torch.tensor(-12.0)).log_softmax(-1).double()  # a few 1e-4 on far states
    rates = paper.reverse_rates(log_p, x_t, times(t, 3))
    step = paper.log_transition(log_p, x_t, times(t, 3), times(t / 2, 3)).exp()
    clean = near.log_softmax(-1).double()
    assert torch.allclose(step.sum(-1), torch.ones(3, 1).double())
    exact = paper.log_transition(clean, x_t, times(t, 3), times(t / 2, 3)).exp()
    assert (step - exact).abs().sum(-1).max() / 2 < 0.01
    assert (rates.sum(-1) / paper.reverse_rates(clean, x_t, times(t, 3)).sum(-1) - 1).abs().max() < 0.2


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.5), (1.0, 1e-3), (0.1, 0.05), (0.01, 0.0), (1e-3, 5e-4)])
def test_posteriors_of_the_paper_are_its_reverse_step(paper, t, s):
    x_t, x_s = torch.cartesian_prod(torch.tensor([0, 100, 200]), torch.arange(256)).split(1, 1)
    at = times(t, len(x_t)), times(s, len(x_t))
    log_p = (-(((torch.arange(256) - x_t[..., None]).double() / 10) ** 2)).log_softmax(-1)
    log_posterior = paper.log_posterior(x_s, x_t, *at)
    assert log_posterior.isfinite().all()
    step = paper.log_transition(log_p, x_t, *at).gather(-1, x_s[..., None])[..., 0]
    assert torch.allclose((log_p + log_posterior).logsumexp(-1).exp(), step.exp(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("t", "s"), [(0.1, 0.05), (0.01, 0.005), (1e-3, 5e-4)])
def test_the_posterior_is_a_law_where_x_0_is_out_of_reach(paper, t, s):
    """Where x_t comes from k by the kernels' noise alone; a bound that adds up to more would flatter."""
    x_s = torch.arange(256)[:, None]
    for x_t in (0, 100):
        log_q = paper.log_posterior(x_s, torch.full_like(x_s, x_t), times(t, 256), times(s, 256))
        assert torch.allclose(log_q.exp().sum(0), torch.ones(1, 256).double(), rtol=1e-9)


@pytest.mark.parametrize(("num_states", "rate_sigma"), [(2, 6.0), (4, 6.0), (4, 1.0), (17, 3.0), (64, 6.0)])
def test_any_number_of_states_mixes_as_the_paper_does(num_states, rate_sigma):
    process = GaussianProcess(StateSpace(shape=(1,), num_states=num_states), rate_sigma)
    distance = (paper_kernel(process, 1.0) - process.pi).abs().sum(1) / 2
    assert 5e-4 < distance.max() < 2e-3


def test_a_shared_time_costs_one_kernel(paper, monkeypatch):
    made = []
    monkeypatch.setattr(paper, "_kernels", lambda d: made.append(d) or torch.eye(256).double()[None])
    for _ in range(3):
        paper.kernels(times(0.123, 8), times(0.012, 8))
    assert len(made) == 1


def test_batches_with_many_times(paper):
    t, s = tensor(0.9, 0.2, 0.9), tensor(0.5, 0.1, 0.5)
    q, which = paper.kernels(t, s)
    assert q.shape == (2, 256, 256)
    for i in range(3):
        alone = paper_kernel(paper, t[i].item(), s[i].item())
        assert torch.allclose(q[which[i]], alone, rtol=0, atol=1e-14)
