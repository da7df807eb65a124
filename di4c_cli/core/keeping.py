"""Which checkpoints a run has: each written whole, the newest and the best kept and pointed to."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from di4c_cli.core import checkpoints
from di4c_cli.errors import CheckpointError, RunError
from di4c_cli.runs import RunDirectory


@dataclass(frozen=True)
class Keeper:
    """The checkpoints of a run directory, on the rank that writes."""

    run: RunDirectory
    header: dict[str, Any]
    """What config.json says beside the step."""
    card: Callable[[int], str]
    """The model card at a step."""
    keep: int
    """How many of the newest are kept."""

    def save(
        self,
        folder: Path,
        step: int,
        model: dict[str, Tensor],
        average: dict[str, Tensor],
        training: dict[str, Tensor] | None,
        held_out: float | None,
    ) -> None:
        """Raises RunError when the disk does not take it; what was there before stays.

        Args:
            training: what a resume needs beyond the weights; None for the finished model.
            held_out: by what the best is told (`held_out.HeldOut`), lower is better; told where it is finite.
        """
        told = {"held_out": held_out} if held_out is not None and math.isfinite(held_out) else {}
        try:
            self.run.sync_metrics()  # a machine that stops loses no line that a resume would not write again
            checkpoints.save(
                folder,
                config={**self.header, "step": step, **told},
                model=model,
                ema=average,
                card=self.card(step),
                training=training,
            )
            self.run.point("latest", folder)
            if (best := self.best()) is not None:
                self.run.point("best", best)
        except OSError as error:
            raise RunError(
                f"{folder}: cannot save the checkpoint: {error.strerror or error}",
                f"make room, then continue with --resume {self.run.path}",
            ) from error

    def forget_old(self) -> None:
        """Keep the newest `keep` checkpoints, and the best."""
        best = self.best()
        for old in self.run.checkpoints()[: -self.keep]:
            if old != best:
                with suppress(OSError):
                    self.run.forget(old)

    def best(self) -> Path | None:
        """The checkpoint that predicts held-out data best, of equals the newest; None where none tells."""
        figures = {}
        for folder in [self.run.final, *reversed(self.run.checkpoints())]:
            with suppress(CheckpointError):
                held_out = checkpoints.read_config(folder).get("held_out")
                if isinstance(held_out, float) and math.isfinite(held_out):
                    figures[folder] = held_out
        return min(figures, key=figures.__getitem__, default=None)
