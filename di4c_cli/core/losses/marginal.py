"""Marginal term: the student's one-position marginals stay the teacher's (Di4C, in closed form).

With control variates the datapoint term and this one at weight 1 nearly cancel on the marginals, so nothing
protects them; a weight above 1 late in training does.
"""

from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.readings import MarginalKL, Reading
from di4c_cli.core.segment import Segment


class Marginal(losses.LawLoss):
    """sum_d KL(teacher^d || (1/L) sum_l student^d(. ; lam_l))."""

    def readings(self, segment: Segment) -> list[Reading]:
        return [MarginalKL(segment.teacher_t)]

    def value(self, segment: Segment, *answers: Tensor) -> Float[Tensor, " B"]:
        return answers[0]


class Config(losses.Config):
    """KL of the marginals to the teacher's."""

    def build(self) -> losses.Loss:
        return Marginal()
