"""The paper's student: a continuous mixture over one scalar lambda."""

from di4c_cli.core import networks, parameterization, students
from di4c_cli.core.denoiser import MixtureDenoiser
from di4c_cli.core.processes import ForwardProcess


class Config(students.Config):
    """Mixture over lambda."""

    def build(self, network: networks.Config, process: ForwardProcess) -> MixtureDenoiser:
        return MixtureDenoiser(
            network.build(process.space, lam=True), parameterization.build(network.parameterization, process)
        )
