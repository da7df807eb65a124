"""The ELBO of jump processes, by enumeration of S^D."""

import itertools

import pytest
import torch

from di4c_cli.core import parameterization
from di4c_cli.core.denoiser import MixtureDenoiser
from di4c_cli.core.losses import elbo
from di4c_cli.core.networks import mlp
from di4c_cli.core.processes.gaussian import GaussianProcess
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.processes.uniform import UniformProcess
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import Batch, StateSpace
from di4c_cli.core.teachers.exact import ExactDenoiser

PAIR = StateSpace(shape=(2,), num_states=3)
JUMPS = {
    "uniform": UniformProcess(PAIR),
    "gaussian": GaussianProcess(PAIR, rate_sigma=1.0, target_sigma=2.0, time_base=0.2),
}
POINTS = torch.cartesian_prod(torch.arange(3), torch.arange(3))
TIME = 0.4


def matrices(process):
    """q_{t|0} and R_t as (S, S) tables, rows are where a chain comes from."""
    states, t = torch.arange(3)[None], torch.tensor([TIME], dtype=torch.float64)
    return process.rows(states, t, torch.zeros_like(t))[0], process.rate_rows(states, t)[0]


def neighbours(x):
    """(position, new state) of every jump."""
    return [(d, k) for d in range(2) for k in range(3) if k != x[d]]


def moved(x, d, k):
    return tuple(k if e == d else x[e] for e in range(2))


def exact_bound(process, prior, p):
    """sum of reverse rates minus forward rates times log reverse rates, over all of S^D; p(x) is (D, S)."""
    q, R = matrices(process)

    def pushed(x, d, k):
        """sum over x_0 of p(x_0) q(k | x_0) / q(x^d | x_0): a reverse rate x -> k over its forward rate."""
        return (p[index(x)][d] * q[:, k] / q[:, x[d]]).sum()

    total = 0
    for x_0, x in itertools.product(POINTS.tolist(), repeat=2):
        weight = prior[tuple(x_0)] * q[x_0[0], x[0]] * q[x_0[1], x[1]]
        total += weight * sum(R[k, x[d]] * pushed(x, d, k) for d, k in neighbours(x))
        total -= weight * sum(R[x[d], k] * pushed(moved(x, d, k), d, x[d]).log() for d, k in neighbours(x))
    return total


def index(x):
    return 3 * x[0] + x[1]


def expected_loss(process, prior, p, *, parity=False):
    """The loss averaged over x_0, x_t and the jump."""
    q, R = matrices(process)
    rows, weights = [], []
    for x_0, x in itertools.product(POINTS.tolist(), repeat=2):
        exit_rate = sum(R[x[d], k] for d, k in neighbours(x))
        for d, k in neighbours(x):
            rows.append((x_0, moved(x, d, k)))
            weights.append(prior[tuple(x_0)] * q[x_0[0], x[0]] * q[x_0[1], x[1]] * R[x[d], k] / exit_rate)
    x_0, y = (torch.tensor(side) for side in zip(*rows, strict=True))
    assert sum(weights) == pytest.approx(1)
    t = torch.full((len(rows),), TIME, dtype=torch.float64)
    values = elbo.negative_elbo(process, p[index(y.T)].log(), x_0, y, t, parity=parity)
    return (torch.stack(weights) * values).sum()


def random_law(*shape, seed):
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1.5 * logits).log_softmax(-1)


@pytest.fixture(params=JUMPS)
def jumps(request):
    """A process and a joint law of the data on it."""
    return JUMPS[request.param], random_law(9, seed=4).softmax(0).view(3, 3)


def test_the_bound_is_unbiased(jumps):
    """Mean and gradient, at a model that is wrong."""
    process, prior = jumps
    logits = random_law(9, 2, 3, seed=8).requires_grad_()
    values = [f(process, prior, logits.softmax(-1)) for f in (expected_loss, exact_bound)]
    gradients = [torch.autograd.grad(value, logits)[0] for value in values]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6)
    assert torch.allclose(*gradients, atol=1e-6)
    assert gradients[0].abs().max() > 0.01


def test_the_exact_posterior_is_the_minimum_of_the_bound(jumps):
    process, prior = jumps
    exact = ExactDenoiser(process, prior)(POINTS, torch.full((9,), TIME, dtype=torch.float64)).log_p
    logits = exact.clone().requires_grad_()
    value = expected_loss(process, prior, logits.softmax(-1))
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() < 1e-6
    for seed in range(5):
        other = (exact + 0.3 * random_law(9, 2, 3, seed=seed)).softmax(-1)
        assert expected_loss(process, prior, other) > value + 1e-4


def test_the_bound_of_the_reference_has_its_minimum_elsewhere(jumps):
    process, prior = jumps
    exact = ExactDenoiser(process, prior)(POINTS, torch.full((9,), TIME, dtype=torch.float64)).log_p
    logits = exact.clone().requires_grad_()
    value = expected_loss(process, prior, logits.softmax(-1), parity=True)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.abs().max() > 1e-3


def test_one_jump(jumps):
    process, _ = jumps
    _, R = matrices(process)
    n, x = 20_000, (0, 1)
    t = torch.full((n,), TIME, dtype=torch.float64)
    y = elbo.one_jump(process, torch.tensor(x).expand(n, 2), t, torch.Generator().manual_seed(0))
    exit_rate = sum(R[x[d], k] for d, k in neighbours(x))
    for d, k in neighbours(x):
        share = (y == torch.tensor(moved(x, d, k))).all(1).double().mean().item()
        assert share == pytest.approx((R[x[d], k] / exit_rate).item(), abs=0.015)
    assert ((y == torch.tensor(x)).sum(1) == 1).all()


def segment_on(process):
    D, masked = process.space.num_dims, process.space.mask_id is not None
    torch.manual_seed(0)
    network = mlp.Config(width=16).build(process.space, lam=True)
    student = MixtureDenoiser(network, parameterization.build("free", process)).double()
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randint(process.space.num_states - masked, (6, D), generator=generator)
    t = torch.linspace(0.2, 1, 6, dtype=torch.float64)
    cast = Cast(process=process, student=student, num_latents=4)
    return Segment(cast, Batch(x_0), t, t / 2, generator)


IMAGE = StateSpace(shape=(1, 4, 4), num_states=3)


def test_the_loss_is_the_bound_at_one_jump_and_a_little_cross_entropy():
    def parts(auxiliary, parity=False):
        segment = segment_on(UniformProcess(IMAGE))
        calls = []
        body = segment.cast.student.network.body
        segment.cast.student.network.body = lambda *args: calls.append(args) or body(*args)
        loss = elbo.Config(auxiliary=auxiliary, parity=parity).build()(segment)
        ((y, t, _, lam),) = calls
        assert ((y != segment.x_t).sum(1) == 1).all()
        log_p = segment.cast.student.mixture(y, t, lam).log_marginal()
        return loss, segment, log_p, y

    loss, segment, log_p, y = parts(0.25)
    process, x_0 = segment.cast.process, segment.batch.x_0
    bound = elbo.negative_elbo(process, log_p, x_0, y, segment.t, parity=False)
    cross_entropy = [-sum(p[d, x[d]].item() for d in range(16)) / 16 for p, x in zip(log_p, x_0, strict=True)]
    assert torch.allclose(loss, bound + 0.25 * torch.tensor(cross_entropy).double())
    reference, *_ = parts(0.0, parity=True)
    assert torch.allclose(reference, elbo.negative_elbo(process, log_p, x_0, y, segment.t, parity=True))
    assert not torch.allclose(reference, bound)


def test_jumps_between_the_data_states_are_needed():
    with pytest.raises(ValueError, match="jumps between the data's own states"):
        elbo.Config().build()(segment_on(MaskedProcess(IMAGE)))
