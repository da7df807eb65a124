"""What ranks tell each other, and how they end together."""

import pytest
import torch
from several import on_ranks

from di4c_cli.core import ranks
from di4c_cli.core.metrics.frechet import frechet_distance
from di4c_cli.core.metrics.kid import kernel_distance
from di4c_cli.core.order import num_parts
from di4c_cli.errors import DataError, RunError, UsageError

CPU = torch.device("cpu")


def test_alone_there_is_nothing_to_tell():
    assert (ranks.size(), ranks.rank(), ranks.first()) == (1, 0, True)
    assert ranks.join(CPU) == CPU
    assert ranks.largest([3, 1]) == [3, 1]
    assert ranks.gathered("x") == ["x"]
    assert ranks.by_first(lambda: 5) == ranks.agreed(lambda: 5) == ranks.after_first(lambda: 5) == 5
    with pytest.raises(DataError, match=r"^gone$"):
        ranks.agreed(lambda: (_ for _ in ()).throw(DataError("gone")))


def test_numbers_and_objects(monkeypatch):
    def work(rank):
        ranks.join(CPU)
        monkeypatch.setattr(ranks, "BUCKET", 100)
        tensors = [
            torch.full((n, 2), rank + 1.0, dtype=d) for n in (1, 5, 9) for d in (torch.float, torch.double)
        ]
        ranks.add_up(tensors)
        ranks.share_first([place := torch.tensor([float(rank)])])
        return {
            "sums": sorted({value for tensor in tensors for value in tensor.flatten().tolist()}),
            "place": place.item(),
            "largest": ranks.largest([rank, -rank]),
            "gathered": ranks.gathered({"rank": rank}),
            "first": ranks.by_first(lambda: f"of {rank}"),
            "then": ranks.after_first(lambda: rank),
            "stacked": [
                ranks.stacked(torch.arange(rows)[most * rank : most * (rank + 1)], most, rows).tolist()
                for rows, most in ((4, 2), (5, 3), (1, 1))
            ],
        }

    found = on_ranks(2, work)
    for rank, one in enumerate(found):
        assert one == {
            "sums": [3.0],
            "place": 0.0,
            "largest": [1, 0],
            "gathered": [{"rank": 0}, {"rank": 1}],
            "first": "of 0",
            "then": rank,
            "stacked": [[0, 1, 2, 3], [0, 1, 2, 3, 4], [0]],
        }


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_ends_all_and_is_told_once(failing):
    def fail(rank):
        if rank == failing:
            raise DataError("shard 2 is damaged", "fetch it again")
        return rank

    def work(rank):
        ranks.join(CPU)
        try:
            ranks.agreed(lambda: fail(rank))
        except DataError as error:
            return str(error)

    told, quiet = on_ranks(2, work)
    by = "process 1: " if failing else ""
    assert told == f"{by}shard 2 is damaged (fetch it again)"
    assert isinstance(quiet, SystemExit)
    assert quiet.code == 2


def test_a_rank_that_has_ended_ends_the_others():
    def work(rank):
        ranks.join(CPU)
        if rank == 1:
            raise SystemExit(1)
        try:
            while True:
                ranks.largest([0])
        except RunError as error:
            return str(error)

    told, _ = on_ranks(2, work)
    assert told.startswith("another process of this run has ended")


def test_a_device_for_one_is_none_for_several():
    def work(rank):
        try:
            ranks.join(torch.device("cpu", 0))
        except UsageError as error:
            return str(error)

    assert on_ranks(2, work)[0].startswith("--device cpu:0: is one for several processes")


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "several", "parts"),
    [
        (64, 1, 1, 1),
        (64, 4, 1, 4),
        (64, 1, 2, 2),
        (64, 4, 2, 4),
        (64, 3, 2, 4),
        (10, 64, 1, 10),
        (10, 64, 4, 8),
    ],
)
def test_parts_are_at_least_those_asked_for_and_equally_many_on_each_rank(
    batch_size, accumulate, several, parts
):
    assert num_parts(batch_size, accumulate, several) == parts


def test_distances_wait_for_no_other_rank():
    """Ranks judge rows of their own: torchmetrics, left to itself, would put the features of all together."""
    real = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    few = {"subsets": 2, "subset_size": 9, "seed": 0}

    def work(rank):
        ranks.join(CPU)
        samples = real + rank
        if rank:
            return None
        return frechet_distance(real, samples), kernel_distance(
            real, samples, subsets=2, subset_size=9, seed=0
        )

    fd, kd = on_ranks(2, work)[0]
    assert fd == pytest.approx(frechet_distance(real, real), abs=1e-6)
    assert kd == kernel_distance(real, real, **few)
