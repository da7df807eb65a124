"""The processes that work on one run together, each a rank. One process by itself needs none of this.

`torchrun` (and `--nproc`) start them, and tell each its place in the environment: RANK, WORLD_SIZE and
LOCAL_RANK. Tensors on GPUs travel by NCCL, all else by gloo. On one rank alone nothing here does anything.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from di4c_cli.errors import Di4CError, RunError, UsageError

T = TypeVar("T")

PATIENCE = timedelta(days=1)  # with a rank that prepares data; one that has died is noticed at once
BUCKET = 25 * 2**20  # bytes that are added up at a time


def size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which one this is, from 0 on."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this is the rank that writes."""
    return rank() == 0


def join(device: torch.device) -> torch.device:
    """Meet the other ranks, if the environment tells of any; the device of this rank.

    Raises:
        UsageError: the ranks of one machine cannot each have a device of their own.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return device
    local = int(os.environ["LOCAL_RANK"])
    if device.type not in ("cpu", "cuda") or device.index is not None:
        raise UsageError(f"--device {device}: is one for several processes", "use auto, cpu or cuda")
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"process {local + 1} has no GPU: this machine has {torch.cuda.device_count()}",
                "start one process for each",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        with peers():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE
            )
        atexit.register(_leave)
    return device


@contextmanager
def peers() -> Iterator[None]:
    """Within, all ranks must do the same; one that has died ends the others.

    Raises:
        RunError: another rank is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "/gloo/" not in str(error):
            raise
        atexit.unregister(_leave)  # a goodbye to the dead may take forever
        raise RunError(
            "another process of this run has ended", "it may have told why; a run goes on with --resume"
        ) from error


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


# -- objects and errors --------------------------------------------------------------------------


def gathered(thing: T) -> list[T]:
    """What every rank has, in the order of ranks, on all of them."""
    if size() == 1:
        return [thing]
    found: list[T] = [thing] * size()
    with peers():
        dist.all_gather_object(found, thing)
    return found


def agreed(work: Callable[[], T]) -> T:
    """What `work` gives on this rank, once it has succeeded on all. It must not wait for other ranks.

    Where it fails on any, all end: the first rank tells the error, the others exit with its code.
    """
    if size() == 1:
        return work()
    error, given = None, []
    try:
        given.append(work())
    except Di4CError as problem:
        error = problem
    errors = [(number, found) for number, found in enumerate(gathered(error)) if found is not None]
    if not errors:
        return given[0]
    number, cause = errors[0]
    if not first():
        raise SystemExit(cause.exit_code)
    if number:
        cause.message = f"process {number}: {cause.message}"
    raise cause from error


def by_first(work: Callable[[], T]) -> T:
    """What `work` gives on the first rank, which alone does it, on all ranks. Fails as `agreed` does."""
    return gathered(agreed(lambda: work() if first() else None))[0]  # type: ignore[return-value]


def after_first(work: Callable[[], T]) -> T:
    """`agreed`, but the others begin when the first rank of their machine is done: they find its caches."""
    if size() == 1:
        return work()
    leads = os.environ["LOCAL_RANK"] == "0"
    given = agreed(lambda: [work()] if leads else [])
    return agreed(lambda: given[0] if leads else work())


# -- numbers -------------------------------------------------------------------------------------


def largest(numbers: Sequence[int]) -> list[int]:
    """The largest over all ranks, each by itself; known on the host, so that no GPU is waited for."""
    if size() == 1:
        return list(numbers)
    found = torch.tensor(numbers)
    with peers():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.tolist()


def add_up(tensors: Iterable[Tensor]) -> None:
    """Each tensor becomes its sum over the ranks, in place. They travel side by side, in buckets."""
    if size() == 1:
        return
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (
            tensor.dtype != bucket[0].dtype or sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET
        ):
            _add_up(bucket)
            bucket = []
        bucket.append(tensor)
    if bucket:
        _add_up(bucket)


def _add_up(bucket: list[Tensor]) -> None:
    flat = torch.cat([tensor.flatten() for tensor in bucket])
    with peers():
        dist.all_reduce(flat)
    for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
        tensor.copy_(total.view_as(tensor))


def share_first(tensors: Iterable[Tensor]) -> None:
    """Each tensor becomes that of the first rank, in place."""
    if size() > 1:
        with peers():
            for tensor in tensors:
                dist.broadcast(tensor, 0)


def stacked(piece: Tensor, most: int, rows: int) -> Tensor:
    """The pieces of all ranks behind each other.

    Args:
        piece: some rows of a tensor; all ranks but the last ones have `most`.
        rows: of the whole.
    """
    padded = piece.new_zeros(most, *piece.shape[1:])
    padded[: len(piece)] = piece
    pieces = [torch.empty_like(padded) for _ in range(size())]
    with peers():
        dist.all_gather(pieces, padded)
    return torch.cat(pieces)[:rows]
