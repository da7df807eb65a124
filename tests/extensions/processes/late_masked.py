"""Masks appear late: the masked share is t^power."""

from pydantic import Field
from torch import Tensor

from di4c_cli.core import processes
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.space import StateSpace


class LateMasked(MaskedProcess):
    def __init__(self, space: StateSpace, power: float) -> None:
        super().__init__(space)
        self.power = power

    def mask_prob(self, t: Tensor) -> Tensor:
        return t.double() ** self.power

    def mask_rate(self, t: Tensor) -> Tensor:
        return self.power * t.double() ** (self.power - 1)


class Config(processes.Config):
    """Masked process that starts slowly."""

    power: float = Field(2.0, gt=0)
    """Exponent of t."""

    def build(self, space: StateSpace) -> LateMasked:
        return LateMasked(space, self.power)
