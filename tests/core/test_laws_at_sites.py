"""Laws that are open at some sites only: what they say elsewhere, and of some of their rows."""

import itertools

import pytest
import torch

from di4c_cli.core import parameterization
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.networks import mlp
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.product_law import KeptLaw, ProductLaw
from di4c_cli.core.sites import Sites
from di4c_cli.core.space import StateSpace

D, S, MASK = 3, 3, 3
PROCESS = MaskedProcess(StateSpace(shape=(D,), num_states=S))
SUBS = parameterization.build("subs", PROCESS)
X_T = torch.tensor([[MASK, 1, MASK], [0, 2, 1], [MASK, MASK, MASK]])
T = torch.tensor([0.5, 0.1, 1.0], dtype=torch.float64)
POINTS = torch.tensor(list(itertools.product(range(S), repeat=D))).expand(len(X_T), -1, -1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def mixture():
    torch.manual_seed(0)
    student = MixtureDenoiser(mlp.Config(width=8).build(PROCESS.space, lam=True), SUBS).double()
    return student.law(X_T, T, generator=seeded(), num_latents=4)


@pytest.fixture
def product():
    torch.manual_seed(0)
    return NetworkDenoiser(mlp.Config(width=8).build(PROCESS.space, lam=False), SUBS).double()(X_T, T)


def test_a_joint_sums_to_one_over_all_points(mixture):
    """Points that contradict what is visible have probability 0, also where nothing is open."""
    p = mixture.log_joint(POINTS).exp()
    assert torch.allclose(p.sum(1), torch.ones(len(X_T)).double())
    agrees = ((X_T[:, None] == MASK) | (X_T[:, None] == POINTS)).all(-1)
    assert torch.equal(p > 0, agrees)


def test_settled_positions_are_certain(mixture, product):
    for log_p in (mixture.log_marginal(), product.log_p, mixture.marginal().log_p):
        p = log_p.exp()
        seen = X_T != MASK
        assert (p[seen].gather(-1, X_T[seen][:, None]) == 1).all()
        assert (p[~seen].max(-1).values < 1).all()
        assert torch.allclose(p.sum(-1), torch.ones(len(X_T), D).double())


def test_draws_go_only_where_they_are_wanted(product):
    read = []

    def watched(sites):
        read.append(len(sites))
        return product.read(sites)

    law = ProductLaw(watched, product.sites, product.num_states, product.settled)
    where = torch.zeros(3, 2, D, dtype=torch.bool)
    where[0, 0, 0] = where[2, 1, 1] = where[1, 0, 0] = True  # the last of them is settled
    x = law.draw(seeded(1), 2, where)
    assert sum(read) == 2
    assert x[0, 0, 0] != MASK
    assert x[2, 1, 1] != MASK
    assert torch.equal(x[1], X_T[1].expand(2, -1))
    whole = product.draw(seeded(1), 2)
    assert torch.equal(x[where], whole[where])  # the same draws as if all were wanted


def test_scores_are_the_log_probabilities_of_what_is_drawn(product):
    x, score = product.scored(seeded(), 5)
    wanted = product.log_p.gather(-1, x.transpose(1, 2)).transpose(1, 2)
    assert torch.allclose(score.double(), wanted, atol=1e-6)


def test_kept_laws_answer_at_any_sites(product):
    kept = KeptLaw(product.read(product.sites), product.sites, product.settled)
    assert torch.equal(kept.log_p.exp(), product.log_p.exp())
    everywhere = Sites.everywhere(len(X_T), D, "cpu")
    for part in (*everywhere.split(4), product.sites):
        assert torch.equal(kept.read(part).exp(), product.read(part).exp())


def test_some_rows_of_a_law(mixture, product):
    rows = torch.tensor([2, 0])
    assert torch.equal(product.subset(rows).log_p, product.log_p[rows])
    assert torch.equal(product.subset(rows).mode(), product.mode()[rows])
    some = mixture.subset(rows)
    assert torch.allclose(some.log_joint(POINTS[rows])[:, :1], mixture.log_joint(POINTS)[rows][:, :1])
    assert torch.equal(some.log_marginal(), mixture.log_marginal()[rows])


def test_a_mixture_of_rows_is_open_where_its_points_differ():
    """Two points of one datum, settled apart at the first position and together at the second."""
    torch.manual_seed(0)
    teacher = NetworkDenoiser(mlp.Config(width=8).build(PROCESS.space, lam=False), SUBS).double()
    points = torch.tensor([[[0, 2, MASK], [1, 2, MASK]]])
    law = teacher.law_of_draws(points, T[:1])
    assert law.sites.position.tolist() == [0, 2]
    p = law.log_marginal().exp()[0]
    assert p[0].tolist() == pytest.approx([0.5, 0.5, 0, 0])
    assert p[1].tolist() == [0, 0, 1, 0]
    both = law.of_some(torch.tensor([0]))
    assert torch.equal(both.log_marginal(), law.log_marginal())
    x, marginal = law.draw_each(seeded())
    assert x[0, :, :2].tolist() == [[0, 2], [1, 2]]
    assert torch.equal(marginal.log_p.exp(), law.log_marginal().exp())
    assert not law.detached().log_p.requires_grad


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (3, 0)])
def test_sites_take_apart_and_put_together(shape):
    B, N = shape
    mask = torch.rand(B, N, generator=seeded()) < 0.6
    sites = Sites.where(mask)
    assert len(sites) == mask.sum()
    values = torch.rand(B, 4, N, generator=seeded())
    at = sites.at(values)
    assert torch.allclose(sites.total(at), (values * mask[:, None]).sum(-1).double())
    placed = sites.placed(at, torch.zeros(B, N, 4))
    assert torch.equal(placed, (values * mask[:, None]).transpose(1, 2))
    parts = list(sites.split(2))
    assert torch.equal(torch.cat([part.row for part in parts]), sites.row)
    assert sites.position.tolist() == sorted(sites.position.tolist())


def test_a_kept_law_that_is_open_nowhere_is_certain_everywhere():
    """As the target of a consistency term is, where the teacher's step revealed the whole batch."""
    settled = torch.tensor([[0, 2, 1]])
    kept = KeptLaw(torch.empty(0, S + 1), Sites.where(torch.zeros(1, D, dtype=torch.bool)), settled)
    assert torch.equal(kept.log_p.exp(), torch.nn.functional.one_hot(settled, S + 1).float())
