"""A student of an earlier round as the teacher of the next (Di4C's second round, "di4c^2")."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from di4c_cli.core import checkpoints, networks, teachers
from di4c_cli.core.component import section
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.students.mixture import Config as Student

StudentSection = section("students")


class Config(teachers.Config):
    """Mixture teacher: targets are its marginals, every teacher step has components of its own."""

    trained: ClassVar[bool] = True
    mixture: ClassVar[bool] = True
    checkpoint: str | None = Field(None)
    """The student's run or checkpoint folder; `--teacher` names another."""
    student: StudentSection = Student()  # type: ignore[valid-type]
    """What kind of student it was, as its own recipe has it."""

    def build(
        self,
        process: ForwardProcess,
        network: networks.Config | None,
        dataset: Dataset | None,
        checkpoint: Path | None,
    ) -> Denoiser:
        if network is None or checkpoint is None:
            raise ValueError("a mixture teacher needs a [network] section and a student's checkpoint")
        kind: Any = self.student
        model: nn.Module = checkpoints.loaded(lambda: kind.build(network, process), checkpoint)
        model.eval().requires_grad_(False)
        assert isinstance(model, Denoiser)
        return model
