"""The student's one-position marginals are as uncertain as the teacher's."""

from torch import Tensor

from di4c_cli.core import losses
from di4c_cli.core.segment import Segment


def entropy(log_p: Tensor) -> Tensor:
    return -(log_p.exp() * log_p).sum(-1)


def entropy_gap(segment: Segment) -> Tensor:
    gap = entropy(segment.student_t.log_marginal()) - entropy(segment.teacher_t.log_p)
    return gap.square().sum(-1)


class Config(losses.Config):
    """Squared gap of entropies."""

    def build(self) -> losses.Loss:
        return entropy_gap
