"""Schedules over the course of training, and the times it draws."""

import math

import pytest
import torch
from pydantic import ValidationError

from di4c_cli.core.schedule import Course, LearningRate, piecewise_linear
from di4c_cli.core.times import Config as Times

# learning rates


def test_warm_up_is_linear_and_ends_at_the_peak():
    lr = LearningRate(peak=2.0, warmup=4, shape="constant")
    assert [lr.at(step, 10) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_cosine_falls_from_the_peak_to_its_floor():
    lr = LearningRate(peak=2.0, floor=0.1)
    assert lr.at(0, 100) == 2.0
    assert lr.at(50, 100) == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert lr.at(25, 100) == pytest.approx(2 * (0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))))
    assert lr.at(100, 100) == pytest.approx(0.2)
    assert lr.at(250, 100) == pytest.approx(0.2)


def test_cosine_begins_after_the_warm_up():
    lr = LearningRate(peak=1.0, warmup=10)
    assert lr.at(10, 110) == 1.0
    assert lr.at(60, 110) == pytest.approx(0.5)
    assert LearningRate(warmup=10).at(10, 10) > 0  # a run no longer than its warm-up


# courses


def test_courses_are_linear_between_knots_and_constant_outside():
    knots = [(0.2, 1.0), (0.5, 4.0), (1.0, 0.0)]
    values = {0.0: 1.0, 0.2: 1.0, 0.3: 2.0, 0.5: 4.0, 0.75: 2.0, 1.0: 0.0, 1.5: 0.0}
    for progress, value in values.items():
        assert piecewise_linear(knots, progress) == pytest.approx(value)
    assert piecewise_linear([(0.5, 3.0)], 0.1) == piecewise_linear([(0.5, 3.0)], 0.9) == 3.0


def test_two_knots_at_one_place_are_a_jump():
    course = Course(knots=[(0.0, 1.0), (0.5, 1.0), (0.5, 6.0), (1.0, 6.0)])
    assert [course.at(p) for p in (0.0, 0.49, 0.51, 1.0)] == [1.0, 1.0, 6.0, 6.0]


def test_courses_do_not_go_back():
    with pytest.raises(ValidationError, match="must not fall"):
        Course(knots=[(0.5, 1.0), (0.4, 1.0)])
    with pytest.raises(ValidationError):
        Course(knots=[])


# times


def draw(n=4000, seed=0, **settings):
    return Times(**settings).sample(n, torch.Generator().manual_seed(seed), "cpu")


SETTINGS = [
    {},
    {"step": 0.9},
    {"step": (1e-3, 1e-2), "t_min": 0.01},
    {"step": 0.5, "step_share": 0.5},
    {"at_one": 0.3, "near_zero": 0.3},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_s_comes_before_t(settings):
    t, s = draw(**settings)
    assert t.dtype == s.dtype == torch.float64
    assert (s >= 0).all()
    assert (s < t).all()
    assert (t <= 1).all()
    assert (t >= settings.get("t_min", 0)).all()


def test_times_are_stratified_over_the_batch_in_random_order():
    t, _ = draw(64, t_min=0.2)
    cells = ((t - 0.2) / 0.8 * 64).floor()
    assert cells.sort().values.tolist() == list(range(64))
    assert cells.tolist() != list(range(64))


def test_shares_of_the_batch_at_one_and_near_zero():
    t, _ = draw(20_000, at_one=0.3, near_zero=0.2, near_zero_below=0.01)
    one, low = (t == 1).double().mean().item(), (t < 0.01).double().mean().item()
    assert one == pytest.approx(0.3, abs=0.01)
    assert low == pytest.approx(0.2 + 0.5 * 0.01, abs=0.01)
    assert t[t < 0.01].mean().item() == pytest.approx(0.005, abs=3e-4)


def test_length_of_the_step():
    t, s = draw(step=0.05)
    assert torch.allclose(t - s, torch.minimum(t, torch.tensor(0.05).double()), atol=1e-15)
    t, s = draw(step=0.4, step_share=0.5)
    assert torch.allclose(t - s, torch.minimum(t / 2, torch.tensor(0.4).double()), atol=1e-15)


def test_a_range_of_steps_is_log_uniform():
    t, s = draw(step=(1e-3, 1e-1), t_min=0.2)
    u = (t - s).log10() + 3
    assert (u >= 0).all()
    assert (u <= 2).all()
    assert u.mean().item() == pytest.approx(1, abs=0.05)
    assert u.var().item() == pytest.approx(4 / 12, abs=0.03)


@pytest.mark.parametrize("step", [0, -0.1, (0.0, 0.1), (-1.0, 0.1)])
def test_steps_have_a_length(step):
    with pytest.raises(ValidationError):
        Times(step=step)


def test_draws_depend_on_the_generator_alone():
    assert torch.equal(draw(seed=3)[0], draw(seed=3)[0])
    assert not torch.equal(draw(seed=3)[0], draw(seed=4)[0])
