"""How much memory a process has needed, and what it does with memory that it no longer needs."""

import ctypes
import resource
import sys

import torch

M_MMAP_THRESHOLD = -3  # of glibc's mallopt
LARGE = 2**20  # bytes


def return_large_blocks() -> None:
    """From now on, large blocks of the heap go back to the system as soon as they are freed (glibc).

    By default blocks of up to 32 MiB are kept for later. Groups of activations that come and go beside
    tensors that stay then lie scattered over twice the memory. The price is page faults on a CPU; a GPU has
    an allocator of its own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far, MiB: of the device where there is one, else resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
