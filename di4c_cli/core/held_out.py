"""How well held-out data is predicted from its noise: by this the checkpoints of one run are compared."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.space import Batch
from di4c_cli.core.times import Config as Times

NUM = 64
"""Held-out points; few, as the noise is the same at every look."""
SEED = 0


@dataclass(frozen=True)
class HeldOut:
    """The mean of -log p(x_0 | x_t) over fixed points, times and noise, nats a point.

    Unlike training losses it means the same for teacher and student, whatever their loss terms and weights.
    """

    process: ForwardProcess
    points: Batch
    times: Times
    num_latents: int
    """L: draws of lambda, also the same at every look."""
    at_once: int
    """Points at a time."""

    @torch.no_grad()
    def __call__(self, model: Denoiser, alive: Callable[[], None] = lambda: None) -> float:
        """Lower is better; NaN for a model that has diverged. `alive` is called time and again."""
        device = self.points.x_0.device
        generator = torch.Generator(device).manual_seed(SEED)
        t, _ = self.times.sample(len(self.points), generator, device)
        x_t = self.process.sample_forward(self.points.x_0, t, generator)
        nats = []
        for rows in torch.arange(len(t), device=device).split(self.at_once):
            law = model.law(
                x_t[rows],
                t[rows],
                self.points[rows].label,
                generator=generator,
                num_latents=self.num_latents,
            )
            nats.append(-law.log_joint(self.points.x_0[rows, None]).double())
            alive()
        return torch.cat(nats).mean().item()
