"""Warnings about lambda: each when it is due, and once."""

import pytest

from di4c_cli.core.watch import RECENT, LambdaWatch, SpikeWatch


def told(correlation, marginal, steps=range(20, 801, 20), after=400):
    """The (step, message) of all warnings of a run whose terms are functions of the step."""
    watch = LambdaWatch(after)
    found = []
    for step in steps:
        terms = {
            "correlation": correlation(step),
            "marginal_plus_correlation": correlation(step) + marginal(step),
        }
        found += [(step, message) for message in watch({"step": step, **terms})]
    return found


def test_a_lambda_in_use_is_left_alone():
    assert told(lambda step: -3.0, lambda step: 1.0) == []


def test_an_ignored_lambda_is_told_once_after_the_plateau():
    ((step, message),) = told(lambda step: -0.01, lambda step: 0.01)
    assert step == 400
    assert message.startswith("warning: step 400: lambda is being ignored (correlation -0.010 nats)")


def test_a_late_escape_is_in_time():
    assert told(lambda step: -0.01 if step < 300 else -2.0, lambda step: 0.5) == []


def test_marginals_that_suffer_more_than_correlations_gain_are_told_though_lambda_is_used():
    ((step, message),) = told(lambda step: -6.0, lambda step: 8.0 if step > 500 else 1.0)
    assert 500 < step <= 700
    assert "worse than one that ignores lambda" in message


@pytest.mark.parametrize("after", [20, 600])
def test_patience_is_a_setting(after):
    assert [step for step, _ in told(lambda step: 0.0, lambda step: 0.0, after=after)] == [after]


def jumps(losses):
    """The steps at which a jump of the loss is told."""
    watch = SpikeWatch()
    return [step for step, loss in enumerate(losses) if watch({"step": step, "loss": loss})]


def noisy(step):
    return 5.0 + 0.3 * ((step * 7919) % 13 - 6) / 6


def test_a_jump_of_the_loss_is_told_once_each_time():
    losses = [noisy(step) for step in range(80)]
    assert jumps(losses) == []
    losses[40:43] = [50.0, 60.0, 55.0]
    losses[60] = 90.0
    assert jumps(losses) == [40, 60]


def test_a_loss_that_falls_from_its_start_is_no_jump():
    assert jumps([40.0 * 0.8**step + noisy(step) for step in range(80)]) == []
    assert jumps([5.0] * 10 + [50.0]) == []  # too little to compare with
    assert jumps([0.0] * RECENT + [0.05, 0.3]) == [RECENT + 1]


def test_lines_without_a_loss_are_passed_over():
    watch = SpikeWatch()
    assert watch({"step": 3}) == []
