"""Calls are handed over where the student is behind beyond chance, at any number of steps."""

import pytest
import torch

from di4c_cli.core.hand_over import HandedOver, behind, handed_over


def test_only_what_exceeds_two_standard_errors_counts():
    noise = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]  # of mean 0
    teacher = torch.zeros(101, 3, dtype=torch.float64)
    error = noise.std().item() / 101**0.5
    just = noise * torch.tensor([0.0, 1.0, 0.0]) + torch.tensor([-1.0, 2.1 * error, -1.0])
    assert behind(just, teacher) == [1]
    assert behind(just - 0.2 * error, teacher) == []
    assert behind(just - 0.2 * error, teacher, errors=1.8) == [1]


def test_a_loss_is_found_that_no_call_shows_alone():
    noise = torch.randn(400, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = torch.tensor([-0.2] * 8 + [0.08] * 8)  # a standard error is 0.05
    worse = noise - noise.mean(0) + shift
    each = [call for call in range(16) if behind(worse[:, [call]], 0 * worse[:, [call]])]
    assert each == []
    assert behind(worse, 0 * worse) == list(range(8, 16))


def test_paths_are_shared_so_what_both_pay_does_not_blur_the_difference():
    both = 100 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    assert behind(both + 0.1 + torch.linspace(0, 0.01, 50)[:, None], both) == [0]


@pytest.mark.parametrize(("K", "share"), [(1, 0.023), (8, 0.15), (32, 0.31)])
def test_how_often_a_student_that_is_no_worse_loses_calls(K, share):
    """What the docstring says of the worst of many spans."""
    lost = 0
    for seed in range(1000):
        noise = torch.randn(60, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        lost += behind(noise, 0 * noise) != []
    assert lost / 1000 == pytest.approx(share, abs=0.04)


def test_one_item_tells_nothing():
    assert behind(torch.ones(1, 3), torch.zeros(1, 3)) == []


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        (8, [6, 7]),  # as stated
        (16, [12, 13, 14, 15]),  # the same stretch of time
        (6, [5]),
        (4, [3]),
        (1, []),
    ],
)
def test_other_numbers_of_steps_go_by_the_nearest(steps, calls):
    assert handed_over([HandedOver(steps=8, calls=[6, 7, 99])], steps) == calls


def test_the_nearest_in_scale():
    table = [HandedOver(steps=4, calls=[0]), HandedOver(steps=32, calls=[*range(24, 32)])]
    assert handed_over(table, 10) == [0, 1, 2]
    assert handed_over(table, 12) == [9, 10, 11]
    assert handed_over([], 12) == []


def test_where_the_student_keeps_up_it_keeps_its_calls():
    table = [HandedOver(steps=k, calls=[]) for k in (1, 2, 4)] + [HandedOver(steps=8, calls=[4, 5, 6, 7])]
    assert [handed_over(table, steps) for steps in (1, 2, 3, 4, 5)] == [[]] * 5
    assert handed_over(table, 6) == [3, 4, 5]
