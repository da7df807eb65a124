"""Times as the paper's three systems draw them: grids, gates, rounds."""

import itertools

import pytest
import torch
from pydantic import ValidationError

from di4c_cli.core.times import Config as Times

PIXELS = {"t_min": 0.01, "s_min": 0.01, "step": (1e-3, 1e-2)}
TEXT = {"near_zero": 0.3, "grid": 1024, "step": 1 / 1024, "step_share": 0.5}


def draw(n=20_000, done=0, seed=0, **settings):
    return Times(**settings).sample(n, torch.Generator().manual_seed(seed), "cpu", step=done)


def test_draws_without_the_new_settings_are_what_they_were():
    """Recorded from the first release: recipes give the same runs."""
    t, s = draw(4, t_min=0.01, at_one=0.25, step=(1e-3, 1e-2))
    assert t.tolist() == [0.02392043551632603, 0.2754758536141331, 0.7949606310627757, 0.5194665061754196]
    assert s.tolist() == pytest.approx(
        [0.02197364780842511, 0.26576317404158895, 0.7921030194721889, 0.5180254898032732], abs=1e-15
    )


def test_pixels():
    """delta log-uniform, t uniform on [0.01 + delta, 1], s = t - delta >= 0.01."""
    t, s = draw(**PIXELS)
    delta = t - s
    assert delta.min() >= 1e-3 - 1e-15
    assert delta.max() <= 1e-2 + 1e-15
    assert s.min() >= 0.01
    share = (s - 0.01) / (0.99 - delta)  # uniform, whatever delta
    assert share.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert share.min() < 1e-3
    long = delta > 9e-3
    assert share[long].mean().item() == pytest.approx(0.5, abs=0.03)
    assert share[long].min() < 0.01


def test_a_step_too_long_for_its_bounds_ends_at_them():
    t, s = draw(10, s_min=0.2, step=0.9)
    assert (t == 1).all()
    assert (s == 0.2).all()


def test_image_tokens():
    t, s = draw(step=0.05)
    assert torch.equal(s, (t - torch.minimum(torch.full_like(t, 0.05), t)).clamp(min=0))


def test_text():
    """Times on the grid; 21/1024 is no longer below 0.02, so the gate opens for 0.3 * 20 / 20.48 of them."""
    t, s = draw(100_000, **TEXT)
    cells = t * 1024
    assert torch.equal(cells, cells.round())
    assert cells.min() == 1
    assert cells.max() == 1024
    assert (t < 0.02).double().mean().item() == pytest.approx(0.3 * 20 / 20.48, abs=5e-3)
    assert (cells[t < 0.02]).mean().item() == pytest.approx(10.5, abs=0.2)
    at_gate = (cells == 21).double().mean().item()
    assert at_gate == pytest.approx(0.3 * 0.48 / 20.48 + 0.7 * 0.52 / 1003.52, abs=2e-3)
    assert torch.equal(t - s, torch.minimum(torch.full_like(t, 1 / 1024), t / 2))


def test_near_zero_is_a_share_of_its_own():
    """The other times all lie above the bound."""
    t, _ = draw(near_zero=0.3, near_zero_below=0.4, t_min=0.1)
    low = t < 0.4
    assert low.double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert t[low].mean().item() == pytest.approx(0.25, abs=0.005)
    assert t[~low].mean().item() == pytest.approx(0.7, abs=0.005)
    everyone, _ = draw(near_zero=1.0, near_zero_below=0.4)
    assert (everyone < 0.4).all()


def test_the_grid_moves_times_up():
    t, _ = draw(64, seed=1)
    on_grid, s = draw(64, seed=1, grid=10)
    for before, after in zip(t.tolist(), on_grid.tolist(), strict=True):
        assert after * 10 == pytest.approx(round(after * 10))
        assert 0 < after - before <= 0.1
    assert (s < on_grid).all()
    one, _ = draw(64, grid=10, at_one=1.0)
    assert (one == 1).all()


def test_rounds_double_the_step():
    lengths = []
    for done in (0, 9_999, 10_000, 25_000, 10**6):
        t, s = draw(1000, done, t_min=0.1, step=0.01, doubling=10_000)
        lengths.append((t - s).amax().item())
        assert ((t - s) <= lengths[-1] + 1e-15).all()
    assert lengths[:4] == pytest.approx([0.01, 0.01, 0.02, 0.04])
    assert lengths[4] == pytest.approx(1, abs=2e-3)  # all of t
    same = [draw(10, done, step=0.01)[1].tolist() for done in (0, 10**6)]
    assert same[0] == same[1]
    _, s = draw(10, 10**9, step=0.01, doubling=1)
    assert (s == 0).all()


def test_rounds_of_sdtt():
    """Each round's step is two of its teacher's: 2/1024, 4/1024, ..., 128/1024 (of 1 - 1e-5)."""
    settings = {"t_min": 1e-5, "step": 0.00195310546875, "doubling": 10_000}
    for round_, (first, last) in enumerate(itertools.pairwise(range(0, 80_000, 10_000)), start=1):
        for done in (first, last - 1):
            t, s = draw(5, done, at_one=1.0, **settings)
            assert torch.allclose(t - s, torch.full_like(t, 2**round_ / 1024 * (1 - 1e-5)), atol=1e-15)


def test_parity_noises_one_grid_step_ahead():
    assert Times(**TEXT, parity=True).ahead == 1 / 1024
    assert Times(**TEXT).ahead == 0
    assert Times().ahead == 0
    for plain, parity in zip(draw(50, **TEXT), draw(50, **TEXT, parity=True), strict=True):
        assert torch.equal(plain, parity)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near_zero": 0.3, "s_min": 0.01}, "leave one of them out"),
        ({"parity": True}, "needs a grid"),
        ({"grid": 0}, "greater than or equal to 1"),
        ({"doubling": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValidationError, match=message):
        Times(**settings)
