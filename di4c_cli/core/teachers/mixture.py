"""A student of an earlier round as the teacher of the next (Di4C's second round, "di4c^2")."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from di4c_cli.core import checkpoints, networks, teachers
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.denoiser import MixtureDenoiser
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.students.mixture import Config as Student


class Config(teachers.Config):
    """Mixture teacher: targets are its marginals over lambda, every teacher step has a lambda of its own."""

    trained: ClassVar[bool] = True
    mixture: ClassVar[bool] = True
    checkpoint: str | None = Field(None)
    """The student's run or checkpoint folder; `--teacher` names another."""

    def build(
        self,
        process: ForwardProcess,
        network: networks.Config | None,
        dataset: Dataset | None,
        checkpoint: Path | None,
    ) -> MixtureDenoiser:
        if network is None or checkpoint is None:
            raise ValueError("a mixture teacher needs a [network] section and a student's checkpoint")
        model = Student().build(network, process)
        checkpoints.load_weights(model, checkpoint)
        model.eval().requires_grad_(False)
        return model
