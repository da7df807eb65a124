"""Mixtures of product laws against enumeration of S^D, read whole and in pieces."""

import itertools
import math

import pytest
import torch

from di4c_cli.core import mixture, product_law
from di4c_cli.core.law import Law, MixtureLaw
from di4c_cli.core.processes.gaussian import GaussianProcess
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.processes.uniform import UniformProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import NEVER, StateSpace, sample_categorical

B, L, D, S = 2, 5, 3, 3


def components(seed=0, num=L, states=S):
    """Random components (B, L, D, S) in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(B, num, D, states, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1)


def points(states=S):
    """All of S^D, (S^D, D)."""
    return torch.tensor(list(itertools.product(range(states), repeat=D)))


def table(log_p):
    """The mixture's joint law over S^D by the definition, (B, S^D)."""
    p = log_p.exp()
    rows = [
        [
            sum(math.prod(p[b, j, d, x[d]] for d in range(D)) for j in range(p.shape[1])) / p.shape[1]
            for x in points(p.shape[3]).tolist()
        ]
        for b in range(B)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def marginals(joint, states=S):
    """One-position marginals of a table (B, S^D), summed out, (B, D, S)."""
    cube = joint.view(B, *[states] * D)
    others = [[1 + e for e in range(D) if e != d] for d in range(D)]
    return torch.stack([cube.sum(dims) for dims in others], 1)


def all_points(states=S):
    return points(states).expand(B, -1, -1)


# the mixture itself


def test_log_mean_exp():
    values = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    assert mixture.log_mean_exp(values, 1).item() == pytest.approx(math.log((1 + math.e + math.e**2) / 3))


def test_the_joint_is_the_definition_and_sums_to_one():
    log_p = components()
    joint = MixtureLaw.dense(log_p).log_joint(all_points()).exp()
    assert torch.allclose(joint, table(log_p), atol=1e-14)
    assert torch.allclose(joint.sum(1), torch.ones(B).double(), atol=1e-13)


def test_marginals_are_those_of_the_joint():
    log_p = components()
    assert torch.allclose(MixtureLaw.dense(log_p).log_marginal().exp(), marginals(table(log_p)), atol=1e-14)


def test_correlation_is_joint_over_product_of_marginals():
    log_p = components()
    joint = table(log_p)
    m = marginals(joint)
    product = torch.stack([torch.stack([m[:, d, x[d]] for d in range(D)]).prod(0) for x in points()], 1)
    assert torch.allclose(
        MixtureLaw.dense(log_p).correlation(all_points()), (joint / product).log(), atol=1e-12
    )


def test_one_component_has_no_correlation():
    log_p = components(num=1)
    assert (MixtureLaw.dense(log_p).correlation(all_points()) == 0).all()
    copies = log_p.expand(-1, 7, -1, -1)
    assert MixtureLaw.dense(copies).correlation(all_points()).abs().max() < 1e-13


def test_float32_stays_close_to_float64_over_thousands_of_positions():
    logits = torch.randn(1, 8, 3072, 4, generator=torch.Generator().manual_seed(0))
    x = torch.randint(4, (1, 2, 3072), generator=torch.Generator().manual_seed(1))
    exact = MixtureLaw.dense(logits.double().log_softmax(-1)).correlation(x)
    assert torch.allclose(MixtureLaw.dense(logits.log_softmax(-1)).correlation(x).double(), exact, atol=0.02)


# the identity behind the control variate


def kl_of_tables(r, p):
    return (r * (r.log() - p.log())).sum(1)


def test_correlation_and_marginal_terms_are_the_kl_up_to_its_constant():
    """KL(r || p) = -E_r[J - M] + sum_d KL(r_d || m_d) + TC(r), TC the total correlation of r."""
    log_r, log_p = components(seed=1, num=4), components()
    r = table(log_r)
    l_corr = -(r * MixtureLaw.dense(log_p).correlation(all_points())).sum(1)
    l_marg = MixtureLaw.dense(log_p).marginal_kl(MixtureLaw.dense(log_r).marginal())
    total_correlation = (r * MixtureLaw.dense(log_r).correlation(all_points())).sum(1)
    exact = kl_of_tables(r, table(log_p))
    assert torch.allclose(l_corr + l_marg + total_correlation, exact, atol=1e-12)
    assert (total_correlation > 0.01).all()  # or the constant was not tested


def test_correlation_and_marginal_terms_have_the_gradient_of_the_kl():
    r, log_r = table(components(seed=1)), components(seed=1)
    logits = components().requires_grad_()

    def gradient(loss):
        return torch.autograd.grad(loss(logits.log_softmax(-1)).sum(), logits)[0]

    def split(log_p):
        l_corr = -(r * MixtureLaw.dense(log_p).correlation(all_points())).sum(1)
        return l_corr + MixtureLaw.dense(log_p).marginal_kl(MixtureLaw.dense(log_r).marginal())

    def whole(log_p):
        return kl_of_tables(r, MixtureLaw.dense(log_p).log_joint(all_points()).exp())

    assert torch.allclose(gradient(split), gradient(whole), atol=1e-12)


# responsibilities


def test_responsibilities_are_posterior_shares():
    log_p = components()
    sums = torch.stack([log_p[:, :, d, points()[:, d]] for d in range(D)]).sum(0)
    share = mixture.responsibilities(sums)
    assert torch.allclose(share.sum(1), torch.ones(B, S**D).double())
    each = torch.stack([table(log_p[:, [j]]) for j in range(L)], 1)
    assert torch.allclose(share, each / each.sum(1, keepdim=True), atol=1e-12)


def test_effective_components_count_those_that_differ():
    same = components(num=1).expand(-1, 6, -1, -1)
    assert torch.allclose(
        MixtureLaw.dense(same).effective_components(all_points()), torch.tensor(6.0).double()
    )
    apart = torch.full((B, S, D, S), NEVER, dtype=torch.float64)
    apart[:, range(S), :, range(S)] = 0  # component k always says k
    agree = torch.arange(S)[:, None].expand(B, S, D)
    assert torch.allclose(MixtureLaw.dense(apart).effective_components(agree), torch.ones(B, S).double())


def test_kl_of_certain_positions_is_zero_and_finite():
    certain = torch.full((1, D, S), NEVER)
    certain[..., 0] = 0.0
    assert mixture.kl(certain, certain).sum().item() == 0
    p = components(num=1)[:1, 0].float()
    assert mixture.kl(certain, p).sum().item() == pytest.approx(-p[0, :, 0].sum().item(), rel=1e-6)


# laws


def test_laws_are_laws():
    assert isinstance(MixtureLaw.dense(components()), Law)


@pytest.fixture(params=[2**24, 2 * L * S, 1])
def piece(request, monkeypatch):
    """Sizes of pieces: all of a law, two sites, one."""
    monkeypatch.setitem(product_law.PIECE, "cpu", request.param)
    monkeypatch.setattr(product_law, "ROWS", 1)
    monkeypatch.setattr(product_law, "KEPT", 1)
    return request.param


def test_product_laws_are_lazy_and_read_in_pieces(piece):
    log_p = components()[:, 0]
    asked = []

    def read(sites):
        asked.append(len(sites))
        return log_p[sites.row, sites.position]

    product = ProductLaw(read, Sites.everywhere(B, D, "cpu"), S)
    assert asked == []
    parts = list(product.table.pieces())
    assert sum(asked) == B * D
    assert max(asked) <= max(1, piece // S)
    for sites, rows in parts:
        assert torch.equal(rows, log_p[sites.row, sites.position])
    assert torch.equal(product.log_p, log_p)


def test_answers_do_not_depend_on_the_pieces(piece):
    log_p = components()
    mixed = MixtureLaw.dense(log_p)
    assert torch.allclose(mixed.log_joint(all_points()).exp(), table(log_p), atol=1e-14)
    assert torch.allclose(mixed.log_marginal().exp(), marginals(table(log_p)), atol=1e-14)
    x, product = mixed.draw_each(torch.Generator().manual_seed(0))
    assert torch.equal(product.log_p, mixed.log_marginal())
    whole = sample_categorical(log_p, torch.Generator().manual_seed(0)).squeeze(-1)
    assert torch.equal(x, whole)


def test_draws_and_mode_of_a_product_law():
    log_p = components()[:, 0]
    x = ProductLaw.dense(log_p).draw(torch.Generator().manual_seed(0), 20_000)
    assert x.shape == (B, 20_000, D)
    frequency = torch.nn.functional.one_hot(x, S).double().mean(1)
    assert torch.allclose(frequency, log_p.exp(), atol=0.015)
    assert torch.equal(ProductLaw.dense(log_p).mode(), log_p.argmax(-1))


def test_draw_each_takes_one_point_from_every_component():
    certain = torch.full((B, S, D, S), NEVER)
    certain[:, range(S), :, range(S)] = 0
    x, _ = MixtureLaw.dense(certain).draw_each(torch.Generator())
    assert torch.equal(x, torch.arange(S)[:, None].expand(B, S, D))


def test_components_kl_bounds_the_kl_of_the_mixture():
    """Convexity: KL(teacher || mixture) <= mean of KL(teacher || component)."""
    teacher, log_p = components(seed=2)[:, 0], components()
    bound = MixtureLaw.dense(log_p).components_kl(ProductLaw.dense(teacher))
    each = [(teacher.exp() * (teacher - log_p[:, j])).sum((1, 2)) for j in range(L)]
    assert torch.allclose(bound, torch.stack(each).mean(0), atol=1e-13)
    assert (kl_of_tables(table(teacher[:, None]), table(log_p)) < bound).all()


STEPS = {
    "masked": lambda space: MaskedProcess(space),
    "gaussian": lambda space: GaussianProcess(space, rate_sigma=1.0),
    "uniform": lambda space: UniformProcess(space),
}


@pytest.mark.parametrize("kind", STEPS)
def test_log_step_is_a_law_of_x_s_with_x_0_summed_out(kind):
    """p(x_s | x_t) = (1/L) sum_l prod_d sum_k p_l^d(k) q(x_s^d | k, x_t^d), for every x_s."""
    process = STEPS[kind](StateSpace(shape=(D,), num_states=S))
    states = process.space.num_states
    log_p = components()
    if process.space.mask_id is not None:
        log_p = torch.cat([log_p, torch.full((B, L, D, 1), NEVER).double()], -1)
    x_t = torch.tensor([[states - 1] * D, [states - 1, 0, states - 1]])
    if process.space.mask_id is not None:
        log_p[1, :, 1] = NEVER  # a visible position is known
        log_p[1, :, 1, 0] = 0.0
    t, s = torch.tensor([0.8, 0.6]).double(), torch.tensor([0.3, 0.5]).double()
    mixed = MixtureLaw.dense(log_p)
    steps = torch.stack(
        [mixed.log_step(process, x_t, x.expand(B, 1, -1), t, s)[:, 0].exp() for x in points(states)], 1
    )
    assert torch.allclose(steps.sum(1), torch.ones(B).double(), atol=1e-12)
    summed = torch.zeros_like(log_p)
    for k in range(states):  # posteriors from one-hot laws, summed by hand
        one_hot = torch.full((B, D, states), NEVER).double()
        one_hot[..., k] = 0.0
        rows = process.log_transition(one_hot, x_t, t, s).exp()
        summed += log_p[..., k, None].exp() * rows[:, None]
    assert torch.allclose(steps, table(summed.log()), atol=1e-12)
