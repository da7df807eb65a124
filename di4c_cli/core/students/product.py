"""A student without a mixture: the control that shows what lambda is good for."""

from di4c_cli.core import networks, parameterization, students
from di4c_cli.core.denoiser import NetworkDenoiser
from di4c_cli.core.processes import ForwardProcess


class Config(students.Config):
    """Product model; `num_latents` does not matter to it."""

    about = "A product law: every position is drawn independently at every step, as its teacher does."

    @property
    def draws(self) -> int:
        return 1

    def build(self, network: networks.Config, process: ForwardProcess) -> NetworkDenoiser:
        return NetworkDenoiser(
            network.build(process.space, lam=False), parameterization.build(network.parameterization, process)
        )
