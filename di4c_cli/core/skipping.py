"""Steps whose loss or gradient is not finite: left out, counted, and at last written down."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from di4c_cli.core.order import step_seed
from di4c_cli.core.space import Batch
from di4c_cli.errors import NonFiniteLossError
from di4c_cli.files import write_text_atomic

FOLDER = "non-finite"


class Skipping:
    """Decides for each step whether its update is left out, and counts those that are.

    All of it stays on the device: a step does not wait for the answer. `check`, called where a line is logged
    or a checkpoint saved, is when the host looks.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self.limit = limit
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        self._last = torch.full((3,), -1.0, dtype=torch.float64, device=device)  # step, loss, norm

    def __call__(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """1 where the update of this step is to be left out, else 0."""
        skip = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self.count += skip
        now = torch.stack([torch.full_like(loss, step, dtype=torch.float64), loss.double(), norm.double()])
        self._last = torch.where(skip, now, self._last)
        return skip.float()

    def left_out(self, step: int) -> bool:
        """Whether the update of that step was left out, and none since."""
        return bool(self._last[0] == step)

    def last_step(self, default: int) -> int:
        """The last step that was left out."""
        step = int(self._last[0])
        return default if step < 0 else step

    def facts(self) -> dict[str, Any]:
        """Loss and gradient norm of that step, as words: JSON has none for what is not finite."""
        _, loss, norm = self._last.tolist()
        return {"loss": str(loss), "grad_norm": str(norm), "skipped": int(self.count)}

    def check(self, run: Path) -> int:
        """How many steps were left out so far.

        Raises:
            NonFiniteLossError: more than the limit.
        """
        count = int(self.count)
        if count > self.limit:
            step = self.last_step(0)
            raise NonFiniteLossError(
                f"{run}: loss or gradient is not finite at step {step + 1}; {count} steps were left out, "
                f"train.max_skipped is {self.limit}",
                "lower train.lr or the weight of the loss that grew; the newest checkpoint is from before, "
                f"the batch of that step in {FOLDER}/",
            )
        return count


def write_batch(run: Path, parts: Sequence[Batch], facts: dict[str, Any]) -> None:
    """The batch of a step in `<run>/non-finite/`: its tensors, and what its randomness depended on.

    `facts` hold the run's `seed` and the `step`, counted from 0; each part's own seed is told too.

    Raises:
        OSError: the disk does not take it.
    """
    seed, step = facts["seed"], facts["step"]
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    tensors = {}
    for number, part in enumerate(parts):
        tensors[f"{number}/x_0"] = part.x_0.cpu().contiguous()
        if part.label is not None:
            tensors[f"{number}/label"] = part.label.cpu().contiguous()
    save_file(tensors, folder / f"step-{step}.safetensors")
    seeds = [{"part": number, "seed": step_seed(seed, step, number)} for number in range(len(parts))]
    write_text_atomic(folder / f"step-{step}.json", json.dumps({**facts, "parts": seeds}, indent=1) + "\n")
