"""Consistency term: the student at t agrees with a teacher step and the student there (Di4C, L_consis)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.readings import Correlation, Joint, MarginalKL, Reading
from di4c_cli.core.segment import Segment


@dataclass(frozen=True)
class Consistency(losses.LawLoss):
    """KL of the marginals in closed form, minus the mean correlation at samples of the target.

    Without that control variate: minus the mean joint log-likelihood of the samples.
    """

    control_variate: bool

    def readings(self, segment: Segment) -> list[Reading]:
        if not self.control_variate:
            return [Joint(segment.target)]
        return [Correlation(segment.target), MarginalKL(segment.target_marginal)]

    def value(self, segment: Segment, *answers: Tensor) -> Float[Tensor, " B"]:
        return sum(answers[1:], -answers[0].mean(1))


class Config(losses.Config):
    """Agreement along the teacher's chain."""

    control_variate: bool = True
    """Integrate the marginal part in closed form."""

    def build(self) -> losses.Loss:
        return Consistency(self.control_variate)
