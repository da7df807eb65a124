"""Losses: functions of a Segment, in nats per data point; the trainer weighs and adds them.

    total = sum_k w_k(t, progress) L_k(segment)

A file `<kind>.py` holds `Config(losses.Config)` with `build() -> Loss`. Sums, not means, over positions and
states. Any function of a segment is a loss; a `LawLoss` also says beforehand what it reads of the student's
law at x_t, so that one pass over it serves all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.component import number_as
from di4c_cli.core.readings import Reading
from di4c_cli.core.schedule import Course
from di4c_cli.core.segment import Segment


@runtime_checkable
class Loss(Protocol):
    def __call__(self, segment: Segment) -> Float[Tensor, " B"]: ...


class LawLoss(ABC):
    """A loss made of readings of the student's law at x_t."""

    @abstractmethod
    def readings(self, segment: Segment) -> Sequence[Reading]:
        """What it wants to know of `segment.student_t`."""

    @abstractmethod
    def value(self, segment: Segment, *answers: Tensor) -> Float[Tensor, " B"]:
        """What it makes of the answers."""

    def __call__(self, segment: Segment) -> Float[Tensor, " B"]:
        return evaluated([(self, segment)])[0]


def evaluated(terms: Sequence[tuple[Loss, Segment]]) -> list[Float[Tensor, " b"]]:
    """The values of losses on parts of one segment, with one pass over the student's law for all of them."""
    asked = [part.relayed(loss.readings(part)) if isinstance(loss, LawLoss) else [] for loss, part in terms]
    together = [reading for wanted in asked for reading in wanted]
    answers = iter(terms[0][1].origin.student_t.answer(*together) if together else [])
    return [
        loss.value(part, *[next(answers) for _ in wanted]) if isinstance(loss, LawLoss) else loss(part)
        for (loss, part), wanted in zip(terms, asked, strict=True)
    ]


class Weight(_Config):
    """A weight over time t and over the course of training."""

    scale: float = 1.0
    """Factor in front."""
    shape: Literal["constant", "linear", "inverse", "sigmoid", "below", "above"] = "constant"
    """1, t, 1/t, sigmoid(slope (t - centre)), 1[t < cut] or 1[t >= cut]."""
    slope: float = 20.0
    """Of the sigmoid."""
    centre: float = 0.5
    """Of the sigmoid."""
    cut: float = 0.02
    """Of `below` and `above`."""
    floor: float = Field(0.01, gt=0)
    """Smallest t that `inverse` divides by."""
    course: Course = Course()
    """Factor over the course of training."""

    def at(self, t: Float[Tensor, " B"], progress: float) -> Float[Tensor, " B"]:
        match self.shape:
            case "constant":
                w = torch.ones_like(t)
            case "linear":
                w = t
            case "inverse":
                w = 1 / t.clamp(min=self.floor)
            case "sigmoid":
                w = torch.sigmoid(self.slope * (t - self.centre))
            case "below":
                w = (t < self.cut).to(t.dtype)
            case "above":
                w = (t >= self.cut).to(t.dtype)
        return w * (self.scale * self.course.at(progress))


class Config(_Config, ABC):
    """What every loss is told."""

    weight: Annotated[Weight, BeforeValidator(number_as("scale"), json_schema_input_type=Weight | float)] = (
        Weight()
    )
    """w(t, progress); a plain number is a constant weight."""

    @abstractmethod
    def build(self) -> Loss:
        """The component that this section describes."""
