"""Students: what the few-step model is.

A file `<kind>.py` holds `Config(students.Config)` with `build(...)`, giving a module that is a Denoiser.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from di4c_cli.core import networks
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.processes import ForwardProcess


class Config(_Config, ABC):
    """What every student is told."""

    about: ClassVar[str]
    """What a model of this kind is and is not, for those who find it: a paragraph of its card."""

    num_latents: int = Field(16, ge=1)
    """L: draws of lambda for each data point in the losses; below 16 lambda is hardly used."""
    init: str = "teacher"
    """Start from the "teacher"'s weights, from "scratch", or from those of another checkpoint folder."""

    target_dropout: bool = False
    """Dropout stays on where the consistency target is computed (a defect of the paper's pixel code)."""

    @property
    def draws(self) -> int:
        """L for the losses of this kind of student."""
        return self.num_latents

    def fit(
        self, student: nn.Module, data: Dataset, generator: torch.Generator, narrate: Callable[[str], None]
    ) -> None:
        """What the student takes from the data before its training: nothing, unless it says so."""

    @abstractmethod
    def build(self, network: networks.Config, process: ForwardProcess) -> nn.Module:
        """The untrained student."""


def init_from(student: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Copy a teacher's weights into the student; only parameters made for lambda may be missing.

    Raises:
        ValueError: the networks differ in anything else.
    """
    own = student.state_dict()
    foreign = given.keys() - own.keys() | {name for name in own.keys() - given.keys() if "lam" not in name}
    foreign |= {name for name in own.keys() & given.keys() if own[name].shape != given[name].shape}
    if foreign:
        raise ValueError(f"student and teacher are different networks: {', '.join(sorted(foreign)[:5])}")
    student.load_state_dict(given, strict=False)
