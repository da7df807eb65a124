"""A teacher that `di4c train-teacher` trains: the recipe's network without lambda."""

from pathlib import Path

from pydantic import Field

from di4c_cli.core import checkpoints, networks, parameterization, teachers
from di4c_cli.core.component import section
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.denoiser import NetworkDenoiser
from di4c_cli.core.losses.denoising import Config as Denoising
from di4c_cli.core.optimisation import Config as Train
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.times import Config as Times

LossSection = section("losses")


def untrained(
    network: networks.Config, process: ForwardProcess, *, everywhere: bool = False
) -> NetworkDenoiser:
    """The network as it begins; to be trained, it may speak of all positions (`parameterization.build`)."""
    rule = parameterization.build(network.parameterization, process, everywhere=everywhere)
    return NetworkDenoiser(network.build(process.space, lam=False), rule)


class Config(teachers.Config):
    """Teacher network."""

    checkpoint: str | None = None
    """A run or checkpoint folder; unset: the recipe's newest finished teacher run, else the shipped one."""
    times: Times = Times()
    """Which t its training draws."""
    losses: list[LossSection] = Field(default=[Denoising()], min_length=1)  # type: ignore[valid-type]
    """Its training losses."""
    train: Train = Train()
    """Its optimisation."""

    def build(
        self,
        process: ForwardProcess,
        network: networks.Config | None,
        dataset: Dataset | None,
        checkpoint: Path | None,
    ) -> NetworkDenoiser:
        if network is None or checkpoint is None:
            raise ValueError("a network teacher needs a [network] section and a checkpoint")
        model = checkpoints.loaded(lambda: untrained(network, process), checkpoint)
        return model.eval().requires_grad_(False)
