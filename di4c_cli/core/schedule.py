"""Schedules over the course of training: learning rates and loss weights (plain arithmetic)."""

import itertools
import math
from typing import Literal

from pydantic import Field, field_validator

from di4c_cli.core.component import Config as _Config


class LearningRate(_Config):
    """Learning rate against the step."""

    peak: float = Field(1e-3, gt=0)
    """Highest learning rate."""
    shape: Literal["cosine", "constant"] = "cosine"
    """Cosine decay to `floor` times the peak, or constant."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up."""
    floor: float = Field(0.0, ge=0, le=1)
    """Share of the peak that a cosine ends at."""

    def at(self, step: int, steps: int) -> float:
        """The rate of the 0-based `step` in a run of `steps`."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if self.shape == "constant":
            return self.peak
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        return self.peak * (
            self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        )


Knots = list[tuple[float, float]]


def piecewise_linear(knots: Knots, progress: float) -> float:
    """Linear interpolation of (progress, value) knots; constant outside them. One knot is a constant."""
    if progress <= knots[0][0]:
        return knots[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(knots):
        if progress <= x1:
            return y0 + (y1 - y0) * (progress - x0) / (x1 - x0) if x1 > x0 else y1
    return knots[-1][1]


class Course(_Config):
    """A factor that changes over the course of training."""

    knots: Knots = Field(default=[(0.0, 1.0)], min_length=1)
    """(progress, factor) points, progress in [0, 1]; linear between them."""

    @field_validator("knots")
    @classmethod
    def _sorted(cls, knots: Knots) -> Knots:
        if any(b[0] < a[0] for a, b in itertools.pairwise(knots)):
            raise ValueError("progress values must not fall")
        return knots

    def at(self, progress: float) -> float:
        return piecewise_linear(self.knots, progress)
