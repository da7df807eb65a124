"""What is drawn in a training step: times, dropout, labels left out, noise, lambda."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from di4c_cli.core.optimisation import Config
from di4c_cli.core.order import step_seed
from di4c_cli.core.space import Batch, StateSpace
from di4c_cli.core.times import Config as Times


@dataclass(frozen=True)
class Draws:
    """The draws of each part of a batch, which depend on seed, step and part alone, not on who has it."""

    times: Times
    space: StateSpace
    config: Config
    """Of `[train]`: seed, batch_size and label_drop."""
    parts: int
    """Of a whole batch."""
    own: slice
    """Those of this rank."""
    device: torch.device

    def __call__(
        self, step: int, parts: Sequence[Batch]
    ) -> Iterator[tuple[Batch, Tensor, Tensor, torch.Generator]]:
        """Each part of this rank, its (t, s) on the host, and the generator of all else drawn for it.

        Times are stratified over the whole batch: every rank draws all of them, and takes its own. They are
        drawn on the host, which has to know where the weights of losses are 0.
        """
        host = torch.Generator().manual_seed(step_seed(self.config.seed, step))
        drawn = self.times.sample(self.config.batch_size, host, "cpu", step=step)
        t, s = (values.tensor_split(self.parts)[self.own] for values in drawn)
        for number, batch in enumerate(parts):
            part = self.own.start + number
            torch.manual_seed(step_seed(self.config.seed, step, part))  # dropout
            if part == 0 and self.device.type == "cpu":
                generator = host  # goes on behind the times
            else:  # not the seed of dropout, or both would be the same numbers
                generator = torch.Generator(self.device)
                generator.manual_seed(step_seed(self.config.seed, step, -2 - part))
            yield (
                batch.told(self.space.num_classes, self.config.label_drop, generator),
                t[number],
                s[number],
                generator,
            )
