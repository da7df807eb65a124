"""Batches in the trainer's order, the next one fetched while the device works on this one."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from di4c_cli.core.datasets import Split
from di4c_cli.core.order import data_indices
from di4c_cli.core.space import Batch

ALL = slice(None)


class Loader:
    """One thread that stays one step ahead: memory-mapped splits read from disk meanwhile.

    Batches lie in pinned memory where there is a GPU, so that their copies need no waiting.
    """

    def __init__(
        self, split: Split, batch_size: int, parts: int, seed: int, device: torch.device, own: slice = ALL
    ) -> None:
        """`own`: those of the parts that this rank computes."""
        self.split, self.batch_size, self.parts, self.seed = split, batch_size, parts, seed
        self.own = own
        self.device = device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._ahead: tuple[int, Future[list[Batch]]] | None = None

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> list[Batch]:
        """The parts of a step's batch that are this rank's, on the device."""
        ahead, self._ahead = self._ahead, None
        fetched = ahead[1].result() if ahead and ahead[0] == step else self._fetch(step)
        self._ahead = step + 1, self._thread.submit(self._fetch, step + 1)
        return [part.to(self.device) for part in fetched]

    def _fetch(self, step: int) -> list[Batch]:
        index = data_indices(len(self.split), self.batch_size, step, self.seed)
        batches = [self.split[rows] for rows in index.tensor_split(self.parts)[self.own]]
        return [batch.pinned() for batch in batches] if self.device.type == "cuda" else batches
