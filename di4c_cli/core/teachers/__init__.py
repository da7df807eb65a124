"""Teachers: the many-step product models that are distilled.

A file `<kind>.py` holds `Config(teachers.Config)` with `build(...)`, giving a frozen Denoiser.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from di4c_cli.core import networks
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.processes import ForwardProcess


class Config(_Config, ABC):
    """What every teacher is told: nothing yet."""

    trained: ClassVar[bool] = True
    """Whether `di4c train-teacher` makes it; if not, it needs no checkpoint."""
    mixture: ClassVar[bool] = False
    """Whether it is a mixture, an earlier round's student, and draws a lambda of its own at every call."""

    @abstractmethod
    def build(
        self,
        process: ForwardProcess,
        network: networks.Config | None,
        dataset: Dataset | None,
        checkpoint: Path | None,
    ) -> Denoiser:
        """The frozen teacher; `checkpoint` is where the pipeline found its weights."""
