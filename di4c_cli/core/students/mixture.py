"""The paper's student: a continuous mixture over one scalar lambda."""

from di4c_cli.core import networks, parameterization, students
from di4c_cli.core.denoiser import MixtureDenoiser
from di4c_cli.core.processes import ForwardProcess


class Config(students.Config):
    """Mixture over lambda."""

    about = (
        "A mixture of product laws over one scalar lambda, drawn anew at every step (Di4C, arXiv\n"
        "2410.08709); it correlates the positions of a step. Likelihoods are estimated from draws of it."
    )

    def build(self, network: networks.Config, process: ForwardProcess) -> MixtureDenoiser:
        return MixtureDenoiser(
            network.build(process.space, lam=True), parameterization.build(network.parameterization, process)
        )
