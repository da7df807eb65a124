"""Consistency term: the student at t agrees with a teacher step and the student there (Di4C, L_consis)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import losses, mixture
from di4c_cli.core.segment import Segment


@dataclass(frozen=True)
class Consistency:
    """KL of the marginals in closed form, minus the mean correlation at samples of the target.

    Without that control variate: minus the mean joint log-likelihood of the samples.
    """

    control_variate: bool

    def __call__(self, segment: Segment) -> Float[Tensor, " B"]:
        target, law = segment.target, segment.student_t
        if not self.control_variate:
            return -law.log_joint(target).mean(1)
        marginals = mixture.kl(segment.student_s.log_marginal(), law.log_marginal())
        return marginals - law.correlation(target).mean(1)


class Config(losses.Config):
    """Agreement along the teacher's chain."""

    control_variate: bool = True
    """Integrate the marginal part in closed form."""

    def build(self) -> losses.Loss:
        return Consistency(self.control_variate)
