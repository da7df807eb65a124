"""Peak memory of one call: the device's where there is one, else resident memory of this process."""

import ctypes
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from di4c_cli.bench.timing import Call, settle

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
HIGH_WATER = "5"  # what the kernel takes for "forget the high-water mark"
INTERVAL = 0.002  # seconds between looks where the kernel keeps no mark of its own


@dataclass(frozen=True)
class Peak:
    """MiB."""

    high: float
    """The high-water mark while the call ran."""
    rise: float
    """How far that is above what was there before."""

    @classmethod
    def of(cls, before: int, high: int) -> "Peak":
        """From bytes."""
        return cls(high / 2**20, max(0, high - before) / 2**20)


def peak_of(call: Call, device: torch.device) -> Peak:
    """Run a call once. It should have run before: what the first call alone allocates is no part of it."""
    if device.type == "cuda":
        return _on_cuda(call, device)
    _give_back()
    try:
        CLEAR.write_text(HIGH_WATER)
    except OSError:
        return _sampled(call)
    before = _status("VmRSS")
    call()
    return Peak.of(before, _status("VmHWM"))


def _on_cuda(call: Call, device: torch.device) -> Peak:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    settle(device)
    return Peak.of(before, torch.cuda.max_memory_allocated(device))


def _give_back() -> None:
    """Return what the C library keeps of freed memory; a call that reused it would seem to need nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc
        trim(0)


def _status(name: str) -> int:
    """Bytes, from a line such as `VmHWM:  225800 kB`."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def _sampled(call: Call) -> Peak:
    """The highest of many looks from another thread."""
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    looks = [before]

    def look() -> None:
        while not done.wait(INTERVAL):
            looks.append(process.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        call()
        looks.append(process.memory_info().rss)
    finally:
        done.set()
        watcher.join()
    return Peak.of(before, max(looks))


def available(device: torch.device) -> float:
    """MiB that could still be allocated."""
    if device.type != "cuda":
        return psutil.virtual_memory().available / 2**20
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + idle) / 2**20
