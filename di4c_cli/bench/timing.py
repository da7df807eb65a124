"""Wall-clock times of calls taken in turn: whatever slows the machine down hits all of them alike."""

import random
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

Call = Callable[[], object]
FEWEST, MOST = 3, 30
SHARE = 2.0  # seconds of one call after which `FEWEST` timings of it will do
ENOUGH = 10.0  # seconds after which any number will


def in_turn(calls: Mapping[str, Call], device: torch.device, rounds: int | None) -> dict[str, list[float]]:
    """Milliseconds of every call, in `rounds` rounds; None: in 3 to 30, and long calls in fewer.

    Every round has an order of its own: behind the same large call, one would always find a cold cache.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, orders = list(calls.items()), random.Random(0)
    for _ in range(rounds or MOST):
        orders.shuffle(order)
        for name, call in order:
            if rounds is not None or not _known_well(times[name]):
                times[name].append(milliseconds(call, device))
    return times


def _known_well(taken: list[float]) -> bool:
    seconds = sum(taken) / 1000
    return seconds > ENOUGH or (seconds > SHARE and len(taken) >= FEWEST)


def milliseconds(call: Call, device: torch.device) -> float:
    """One call, with everything that it started on the device."""
    settle(device)
    started = time.perf_counter()
    call()
    settle(device)
    return 1000 * (time.perf_counter() - started)


def settle(device: torch.device) -> None:
    """Wait for the work that a device still has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(times: list[float]) -> dict[str, float]:
    """Median and the 10th and 90th percentile."""
    low, median, high = np.percentile(times, (10, 50, 90)).tolist()
    return {"median_ms": median, "p10_ms": low, "p90_ms": high}
