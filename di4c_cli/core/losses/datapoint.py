"""Datapoint term: the likelihood of the data point behind x_t (Di4C, L_data), the source of correlations."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.readings import Correlation, Joint, Reading
from di4c_cli.core.segment import Segment


@dataclass(frozen=True)
class Datapoint(losses.LawLoss):
    """-(J(x_0) - M(x_0)) with control variate (pair it with `marginal`), -J(x_0) without."""

    control_variate: bool

    def readings(self, segment: Segment) -> list[Reading]:
        x_0 = segment.batch.x_0[:, None]
        return [Correlation(x_0) if self.control_variate else Joint(x_0)]

    def value(self, segment: Segment, *answers: Tensor) -> Float[Tensor, " B"]:
        return -answers[0].squeeze(1)


class Config(losses.Config):
    """Likelihood of the data point."""

    control_variate: bool = True
    """Take the marginals out; they are then the business of the `marginal` loss."""

    def build(self) -> losses.Loss:
        return Datapoint(self.control_variate)
