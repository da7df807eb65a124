"""Intervals: they cover the truth as often as they say, and pairing narrows them."""

import math

import pytest
import torch

from di4c_cli.core.intervals import estimate, interval, of_difference, student_t
from di4c_cli.core.metrics import PerItem
from di4c_cli.core.verdict import at_entropy, verdict

TRIALS = 200
OFTEN = (0.90, 0.99)
"""Where the share of 200 trials nearly always lies that succeed at 95 % each, or little less (bootstrap)."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("di4c_cli.core.intervals.RESAMPLES", 300)


def covered(found, truth):
    shares = [low <= truth <= high for low, high in found]
    return OFTEN[0] <= sum(shares) / len(shares) <= OFTEN[1]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def exponential(*shape, generator):
    return -torch.rand(*shape, generator=generator, dtype=torch.float64).log()


def test_a_mean_a_ratio_and_a_perplexity_are_covered():
    """Of exponential variables of mean 1, over counts of mean 2 that are independent of them."""
    generator = seeded()
    means, ratios, perplexities = [], [], []
    for _ in range(TRIALS):
        total = exponential(150, generator=generator)
        count = torch.randint(1, 4, (150,), generator=generator).double()
        means.append(interval([PerItem.mean(total)]))
        ratios.append(interval([PerItem(total, count)]))
        perplexities.append(interval([PerItem(total, count, exponential=True)]))
    assert covered(means, 1)
    assert covered(ratios, 0.5)
    assert covered(perplexities, math.exp(0.5))


def test_a_difference_of_samples_is_covered_over_pooled_seeds():
    generator = seeded(1)

    def model(mean):
        return [PerItem.mean(mean * exponential(60, generator=generator)) for _ in range(3)]

    assert covered([of_difference(model(2), model(1)) for _ in range(TRIALS)], 1)


def test_a_difference_over_held_out_items_is_covered():
    """Hard items are hard for both models; every seed adds noise of its own."""
    generator = seeded(2)
    found = []
    for _ in range(TRIALS):
        hardness = 10 * exponential(80, generator=generator)

        def model(mean, hardness=hardness):
            noise = torch.randn(2, 80, generator=generator, dtype=torch.float64)
            return [PerItem.mean(mean + hardness + row, held_out=True) for row in noise]

        found.append(of_difference(model(1), model(0)))
    assert covered(found, 1)


def test_pairing_narrows_the_interval():
    hardness = 10 * exponential(200, generator=seeded())
    noise = torch.randn(200, generator=seeded(), dtype=torch.float64)

    def width(held_out):
        ours = [PerItem.mean(hardness + noise, held_out=held_out)]
        low, high = of_difference(ours, [PerItem.mean(hardness, held_out=held_out)])
        return high - low

    assert width(held_out=True) < 0.2 * width(held_out=False)


def test_seeds_of_samples_are_pooled_and_held_out_items_averaged():
    first, second = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0, 4.0, 5.0])
    assert estimate([PerItem.mean(first), PerItem.mean(second)]) == pytest.approx(2.5)
    again = [PerItem.mean(first, held_out=True), PerItem.mean(1 - first, held_out=True)]
    assert interval(again) == (0.5, 0.5)  # both items are 0.5 on average: no item differs from another
    low, high = interval([PerItem.mean(first), PerItem.mean(1 - first)])
    assert low < 0.5 < high


def test_figures_without_items_get_student_s_t_paired_by_seed():
    # critical values of a printed table
    assert [student_t(n) for n in (1, 2, 5, 30)] == pytest.approx([12.706, 4.303, 2.571, 2.042], abs=2e-3)
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert interval([1.0]) is None
    assert of_difference([1.0, 5.0, 9.0], [0.0, 4.0, 8.0]) == pytest.approx((1, 1))
    assert of_difference([1.0], [0.0]) is None


@pytest.mark.parametrize(("share", "num"), [(0.01, 100), (0.99, 100), (0.3, 50)])
def test_a_share_is_covered_also_where_hardly_any_item_has_it(share, num):
    covered = 0
    for seed in range(300):
        has = (torch.rand(num, generator=seeded(seed)) < share).double()
        low, high = interval([PerItem.mean(has)])
        covered += low <= share <= high
    assert covered / 300 > 0.9  # the interval's own coverage is .92 there, resampling's .64
    low, high = interval([PerItem.mean(torch.zeros(num))])
    assert (low, high) == pytest.approx((0, 1.96**2 / (num + 1.96**2)), abs=1e-4)


def test_intervals_repeat():
    items = [PerItem.mean(exponential(50, generator=seeded()))]
    assert interval(items) == interval(items)


# verdicts


def bounds(mean):
    hardness = exponential(100, generator=seeded())
    return [PerItem.mean(hardness + mean, held_out=True)]


@pytest.mark.parametrize(
    ("student", "teacher", "direction", "says"),
    [
        ([1.0, 1.1, 0.9], [2.0, 2.2, 2.1], "lower", "better"),
        ([1.0, 1.1, 0.9], [2.0, 2.2, 2.1], "higher", "worse"),
        ([2.0, 2.2, 2.1], [1.0, 1.1, 0.9], "lower", "worse"),
        ([2.0, 2.2, 2.1], [1.0, 1.1, 0.9], "higher", "better"),
        ([1.0, 2.0, 3.0], [2.0, 1.0, 3.0], "lower", "equal"),
        ([1.0], [2.0], "lower", "unknown"),
        ([PerItem.mean(torch.ones(1))], [PerItem.mean(torch.zeros(1))], "lower", "unknown"),
        ([math.nan, 1.0], [2.0, 2.0], "lower", "unknown"),
        (bounds(0.0), bounds(0.1), "lower", "better"),
        (bounds(0.1), bounds(0.0), "lower", "worse"),
        (bounds(0.0), bounds(0.0), "lower", "equal"),
    ],
)
def test_a_verdict_is_what_the_interval_leaves_no_doubt_about(student, teacher, direction, says):
    found = verdict(student, teacher, direction)
    assert found.says == says
    if says == "unknown":
        assert (found.low, found.high) == (None, None)
    else:
        assert found.low <= found.difference + 1e-12
        assert found.difference <= found.high + 1e-12


def test_perplexity_at_an_entropy_is_interpolated_never_extrapolated():
    points = [(4.0, math.exp(2)), (5.0, math.exp(4)), (3.0, math.exp(1))]
    assert at_entropy(4.5, points) == pytest.approx(math.exp(3))
    assert at_entropy(3.25, points) == pytest.approx(math.exp(1.25))
    assert at_entropy(5.0, points) == pytest.approx(math.exp(4))
    assert at_entropy(5.01, points) is None
    assert at_entropy(2.99, points) is None
    assert at_entropy(4.0, points[:1]) is None
