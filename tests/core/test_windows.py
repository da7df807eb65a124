"""Tilings of text and images by windows, and how neighbours' components come together, by enumeration."""

import itertools

import pytest
import torch

from di4c_cli.core.coupling import Chain, Independent
from di4c_cli.core.windows import tiled


@pytest.mark.parametrize(
    ("shape", "size"), [((7,), (3,)), ((8,), (8,)), ((1, 4, 6), (2, 3)), ((3, 4, 4), (3, 2)), ((5,), (1,))]
)
def test_every_position_is_in_one_window(shape, size):
    for back in itertools.product(*[range(n) for n in size]):
        windows = tiled(shape, size, back)
        members = windows.members[windows.members >= 0]
        assert sorted(members.tolist()) == list(range(windows.num_dims))
        for w, row in enumerate(windows.members):
            for offset, position in enumerate(row.tolist()):
                if position >= 0:
                    assert windows.window[position] == w
                    assert windows.place[position] == offset


def test_runs_of_text_move_back_and_are_cut_at_the_edges():
    assert tiled((8,), (4,), (0,)).members.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert tiled((8,), (4,), (2,)).members.tolist() == [[-1, -1, 0, 1], [2, 3, 4, 5], [6, 7, -1, -1]]


def test_patches_hold_all_channels():
    windows = tiled((2, 2, 4), (2, 2), (0, 0))
    assert windows.members.tolist() == [[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]]


@pytest.mark.parametrize(
    ("shape", "size"), [((8,), (9,)), ((8,), (2, 2)), ((1, 4, 4), (4,)), ((1, 4, 4), (5, 1))]
)
def test_windows_that_do_not_fit_are_refused(shape, size):
    with pytest.raises(ValueError, match="does not fit"):
        tiled(shape, size, tuple(0 for _ in size))


B, W, M = 2, 3, 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def potentials():
    return 2 * torch.randn(B, W, M, generator=seeded(), dtype=torch.float64)


def couplings():
    chains = [Chain(1, M).double(), Chain(W - 1, M).double()]
    for chain in chains:
        chain.transition.data = torch.randn(chain.transition.shape, generator=seeded(1), dtype=torch.float64)
    return [Independent(), *chains]


def by_enumeration(coupling, u):
    """(B, M, M, M): unnormalised log-weights of all assignments."""
    table = u[:, 0, :, None, None] + u[:, 1, None, :, None] + u[:, 2, None, None, :]
    if isinstance(coupling, Chain):
        links = coupling.transition.expand(W - 1, -1, -1)
        table = table + links[0][None, :, :, None] + links[1][None, None]
    return table


@pytest.mark.parametrize("number", range(3))
def test_sums_over_assignments(number):
    coupling, u = couplings()[number], potentials()
    table = by_enumeration(coupling, u)
    both = torch.stack([u, 0.5 * u], -1)
    wanted = torch.stack([by_enumeration(coupling, v).flatten(1).logsumexp(1) for v in (u, 0.5 * u)], -1)
    assert torch.allclose(coupling.log_total(both), wanted)
    p = table.flatten(1).softmax(-1).view(B, M, M, M)
    marginals = torch.stack([p.sum((2, 3)), p.sum((1, 3)), p.sum((1, 2))], 1)
    assert torch.allclose(coupling.log_marginals(u).exp(), marginals)


@pytest.mark.parametrize("number", range(3))
def test_marginals_are_the_gradient_of_the_log_total(number):
    """So the forward algorithm and the messages of both directions say the same, gradients included."""
    coupling, u = couplings()[number], potentials().requires_grad_()
    (gradient,) = torch.autograd.grad(coupling.log_total(u[..., None]).sum(), u)
    assert torch.allclose(gradient, coupling.log_marginals(u).exp())


@pytest.mark.parametrize("number", range(3))
def test_draws_have_the_law(number):
    coupling, u = couplings()[number], potentials()[:1]
    num = 40_000
    drawn = coupling.draw(u.expand(num, -1, -1), seeded(2))
    counted = torch.bincount(drawn @ torch.tensor([M * M, M, 1]), minlength=M**3) / num
    wanted = by_enumeration(coupling, u).flatten().softmax(0)
    assert 0.5 * (counted - wanted).abs().sum() < 0.02


@pytest.mark.parametrize("number", [1, 2])
def test_messages_stay_in_range(number):
    """Potentials of hundreds of nats in float32: the forward algorithm neither overflows nor gives NaN."""
    coupling = couplings()[number].float()
    u = 300 * potentials().float()
    wanted = by_enumeration(coupling, u).double().flatten(1).logsumexp(1)
    assert torch.allclose(coupling.log_total(u[..., None]).squeeze(-1), wanted, rtol=1e-5)
    assert coupling.log_marginals(u).exp().sum(-1).allclose(torch.ones(B, W))
