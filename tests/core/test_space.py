"""The state space, and the one categorical draw against a float32 race."""

import pytest
import torch

from di4c_cli.core import space
from di4c_cli.core.space import (
    NEVER,
    Batch,
    StateSpace,
    draw_distinct,
    draw_from,
    sample_categorical,
    stratified,
    uniform,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_square_z(counts, p):
    """Pearson's statistic, in standard deviations above its mean."""
    expected = counts.sum() * p
    statistic = ((counts - expected) ** 2 / expected).sum()
    df = len(p) - 1
    return ((statistic - df) / (2 * df) ** 0.5).item()


# the space


def test_mask_is_one_more_state_and_the_last():
    data = StateSpace(shape=(3, 4, 5), num_states=7, num_classes=2)
    masked = data.with_mask()
    assert (data.num_dims, data.mask_id) == (60, None)
    assert (masked.num_states, masked.mask_id, masked.shape, masked.num_classes) == (8, 7, (3, 4, 5), 2)


def test_batches_move_with_their_labels():
    batch = Batch(torch.zeros(3, 2, dtype=torch.int64), torch.arange(3)).to("cpu")
    assert len(batch) == 3
    assert batch.label.tolist() == [0, 1, 2]
    assert Batch(batch.x_0).to("cpu").label is None


# uniforms


def test_stratified_rows_have_one_point_in_each_cell():
    u = stratified(50, 8, seeded(), "cpu")
    assert u.dtype == torch.float64
    assert ((u * 8).floor() == torch.arange(8)).all()
    within = u * 8 - torch.arange(8)  # and the points are uniform within their cells
    counts = torch.histc(within.float(), bins=10, min=0, max=1).double()
    assert chi_square_z(counts, torch.full((10,), 0.1).double()) < 4


def test_uniforms_resolve_more_than_float32():
    u = uniform(1000, generator=seeded(), device="cpu")
    assert (u * 2**24 != (u * 2**24).round()).all()


# the categorical draw


def test_draws_follow_unnormalised_rows():
    log_p = torch.tensor([[0.0, 1.0, -1.0, 2.0], [3.0, 3.0, NEVER, -torch.inf]]) + 500
    x = sample_categorical(log_p, seeded(), 20_000)
    assert x.shape == (2, 20_000)
    assert x.dtype == torch.int64
    p = log_p.double().softmax(-1)
    assert chi_square_z(x[0].bincount(minlength=4), p[0]) < 4
    assert chi_square_z(x[1].bincount(minlength=2), p[1, :2]) < 4


def test_shape_of_draws():
    assert sample_categorical(torch.zeros(2, 3, 4), seeded()).shape == (2, 3, 1)
    assert sample_categorical(torch.zeros(4), seeded(), 5).shape == (5,)
    assert sample_categorical(torch.zeros(4).expand(6, 2, 4), seeded(), 5).shape == (6, 2, 5)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53, 1.0])
def test_extreme_uniforms_never_meet_an_impossible_state(monkeypatch, u):
    p = torch.tensor([0.0, 0.0, 0.1, 0.0, 0.7, 0.2, 0.0, 0.0], dtype=torch.float64)

    def constant(*shape, generator, device):
        return torch.full(shape, u, dtype=torch.float64)

    monkeypatch.setattr(space, "uniform", constant)
    for log_p in (p.log(), p.log().clamp(min=NEVER), p.float().log() - 7):
        assert sample_categorical(log_p, seeded()).item() == (2 if u == 0 else 5)


# rare states: one state of 7/8, and 2^22 states that share the rest, 2^-25 each

NUM_RARE = 2**22
RARE = 1 / 8


def share_is_right(rare, num):
    """Whether `rare` of `num` draws on rare states is their share, up to three standard deviations."""
    return abs(rare - num * RARE) < 3 * (num * RARE * (1 - RARE)) ** 0.5


def race_in_float32(num, seed):
    """How many of `num` races argmax p / (1e-10 - log(U + 1e-10)), U in float32, a rare state wins.

    Rare states have equal p, so the one with the largest U is the only one of them that can win.
    """
    generator = seeded(seed)
    wins, chunk = 0, torch.empty(2**18)
    for _ in range(num):
        chunks = range(NUM_RARE // len(chunk))
        best = torch.stack(
            [torch.rand(len(chunk), generator=generator, out=chunk).amax() for _ in chunks]
        ).amax()
        other = torch.rand((), generator=generator)
        rare, common = (1e-10 - torch.log(u + 1e-10) for u in (best, other))
        wins += int(RARE / NUM_RARE / rare > (1 - RARE) / common)
    return wins


def test_rare_states_keep_their_share_where_a_float32_race_starves_them():
    log_p = torch.full((NUM_RARE + 1,), RARE / NUM_RARE).log()
    log_p[0] = torch.tensor(1 - RARE).log()
    num = 256
    wins = race_in_float32(num, seed=0)
    assert not share_is_right(wins, num)
    assert wins < num * RARE / 2
    assert share_is_right((sample_categorical(log_p, seeded(), num) > 0).sum().item(), num)
    many = sample_categorical(log_p, seeded(), 100_000)
    many = many[many > 0]
    assert share_is_right(len(many), 100_000)
    # and each rare state has its own: a cumulative sum in float32 merges neighbours, and so repeats itself
    repeats, expected = len(many) - len(many.unique()), len(many) ** 2 / (2 * NUM_RARE)
    assert repeats < expected + 4 * expected**0.5


# draws that share their laws


def table_of(keys):
    """A law for each key: key 0 is certain of state 3, the others spread over the first states."""
    rows = torch.rand(5, 7, generator=seeded(3)).double()
    rows[0] = 0
    rows[0, 3] = 2.5  # not normalised
    rows[:, 5:] = 0
    return rows[keys]


@pytest.mark.parametrize("at_once", [1, 14, 2**18])
def test_draws_by_key_follow_the_law_of_their_key(monkeypatch, at_once):
    monkeypatch.setattr(space, "DRAWN_AT_ONCE", at_once)
    keys = torch.arange(5).repeat(3, 20_000)[:, torch.randperm(100_000, generator=seeded())]
    x = draw_distinct(keys, table_of, 7, seeded(1))
    assert x.shape == keys.shape
    assert (x[keys == 0] == 3).all()
    assert x.max() < 5
    for key in range(1, 5):
        frequency = torch.bincount(x[keys == key], minlength=7) / 60_000
        law = table_of(torch.tensor([key]))[0]
        assert torch.allclose(frequency.double(), law / law.sum(), atol=0.01)


@pytest.mark.parametrize("num_states", [1, 2, 7, 8, 9])
def test_draws_by_key_are_those_of_the_inverse_cdf(num_states):
    law = torch.rand(3, num_states, generator=seeded()).double()
    keys = torch.arange(3)[:, None].expand(-1, 500)
    x = draw_distinct(keys, lambda k: law[k], num_states, seeded(2))
    u = uniform(3, 500, generator=seeded(2), device="cpu")
    assert torch.equal(x, draw_from(law.log(), u))


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_draws_by_key_never_meet_the_impossible(monkeypatch, u):
    monkeypatch.setattr(space, "uniform", lambda *shape, generator, device: torch.full(shape, u).double())
    law = torch.tensor([[0.0, 0.0, 1.0, 1e-12, 0.0]]).double()
    x = draw_distinct(torch.zeros(4, dtype=torch.long), lambda k: law[k], 5, seeded())
    assert (x == (2 if u == 0 else 3)).all()


def test_no_keys_no_draws():
    none = torch.zeros(2, 0, dtype=torch.long)
    assert draw_distinct(none, table_of, 7, seeded()).shape == (2, 0)
