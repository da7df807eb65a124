"""Self-distillation through time: whose law is the target of which position, and at which times."""

import math

import pytest
import torch

from di4c_cli.core.denoiser import ProductDenoiser
from di4c_cli.core.law import MixtureLaw
from di4c_cli.core.losses import sdtt
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.processes.uniform import UniformProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers import Sampler
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import Batch, StateSpace

B, D, S = 2, 3, 3
SPACE = StateSpace(shape=(D,), num_states=S)


class Listed(ProductDenoiser):
    """Laws from a list, call by call."""

    def __init__(self, laws):
        self.laws, self.times = list(laws), []

    def __call__(self, x_t, t, label=None, *, generator=None):
        self.times.append(t)
        return ProductLaw.dense(self.laws.pop(0))


class Script(Sampler):
    """Reveals what it is told to, step by step."""

    def __init__(self, *points):
        self.points, self.times = list(points), []

    def step(self, law, x_t, t, s, generator, num=1):
        self.times.append((t, s))
        return self.points.pop(0)[:, None]


MASK = S
X_T = torch.tensor([[MASK, MASK, MASK], [MASK, 1, MASK]])


def laws(num):
    logits = torch.randn(num, B, D, S + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (1.5 * logits).log_softmax(-1)


def segment_of(student, *teacher, t=(0.8, 0.8), s=(0.4, 0.4)):
    """Teacher steps reveal (0, 0) and (1, 2) first, then (0, 1), and nothing after that."""
    first, second = X_T.clone(), X_T.clone()
    first[0, 0], first[1, 2] = 2, 0
    second[0, 0], second[1, 2], second[0, 1] = 2, 0, 1
    process = MaskedProcess(SPACE)
    model, script = Listed(teacher), Script(first, second, second)
    cast = Cast(process=process, student=Listed([]), teacher=model, teacher_sampler=script)
    times = (torch.tensor(side, dtype=torch.float64) for side in (t, s))
    segment = Segment(cast, Batch(torch.zeros(B, D).long()), *times, torch.Generator())
    vars(segment).update(x_t=X_T, student_t=MixtureLaw.dense(student[:, None]))
    return segment


@pytest.mark.parametrize("divergence", ["kl_backward", "kl_forward"])
def test_targets_are_those_of_the_step_that_reveals(divergence):
    """The mean is over masked positions, 5 of them; visible ones, where laws differ too, do not count."""
    given = laws(4)
    segment = segment_of(*given)
    loss = sdtt.Config(steps=3, divergence=divergence).build()(segment)
    revealed_in = {(0, 0): 1, (1, 2): 1, (0, 1): 2, (0, 2): 3, (1, 0): 3}
    wanted = [0.0, 0.0]
    for (b, d), step in revealed_in.items():
        p, q = given[0][b, d].exp().tolist(), given[step][b, d].exp().tolist()
        if divergence == "kl_forward":
            p, q = q, p
        wanted[b] += sum(p[k] * math.log(p[k] / q[k]) for k in range(S + 1)) / 5 * B
    assert loss.tolist() == pytest.approx(wanted)


def test_steps_share_the_way_from_t_to_s():
    segment = segment_of(*laws(4), t=(0.8, 0.5), s=(0.5, 0.5 - 0.06))
    sdtt.Config(steps=3).build()(segment)
    first, second = (
        segment.cast.teacher_sampler.times
    )  # the third step's law is the target, whatever it reveals
    assert first[0].tolist() == [0.8, 0.5]
    assert first[1].tolist() == second[0].tolist() == pytest.approx([0.7, 0.48])
    assert second[1].tolist() == pytest.approx([0.6, 0.46])
    times = [t.tolist() for t in segment.cast.teacher.times]
    assert times == [first[0].tolist(), second[0].tolist(), second[1].tolist()]


def test_times_of_the_reference():
    """Steps of dt from t + (1 - t)(t - 2 dt) and (1 - t)(t - 2 dt); dt is that of the longest step."""
    segment = segment_of(*laws(4), t=(0.8, 0.1), s=(0.4, 0.0))
    sdtt.Config(steps=2, parity=True).build()(segment)
    ((start, end),) = segment.cast.teacher_sampler.times
    assert start.tolist() == pytest.approx([0.8 + 0.2 * 0.4, 1e-5])  # 0.1 + 0.9 * (-0.3) < 0
    assert end.tolist() == pytest.approx([0.68, 0.0])
    asked = [t.tolist() for t in segment.cast.teacher.times]
    assert asked[0] == start.tolist()
    assert asked[1] == pytest.approx([0.2 * 0.4, 1e-5])
    assert len(asked) == 2


def test_nothing_is_learned_from_one_step_of_itself():
    (law,) = laws(1)
    assert (sdtt.Config(steps=1).build()(segment_of(law, law)) == 0).all()


def test_only_the_student_carries_gradient():
    given = laws(3).requires_grad_()
    sdtt.Config().build()(segment_of(*given)).sum().backward()
    assert given.grad[0].any()
    assert not given.grad[1:].any()


def test_a_mask_and_a_teacher_are_needed():
    lonely = segment_of(*laws(2))
    without = Cast(process=lonely.cast.process, student=lonely.cast.student)
    given = (lonely.batch, lonely.t, lonely.s, lonely.generator)
    with pytest.raises(ValueError, match="needs a teacher"):
        sdtt.Config().build()(Segment(without, *given))
    without = Cast(process=UniformProcess(SPACE), student=lonely.cast.student)
    with pytest.raises(ValueError, match="needs a process with a mask"):
        sdtt.Config().build()(Segment(without, *given))
