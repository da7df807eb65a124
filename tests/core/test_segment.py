"""The segment x_0 -> x_t -> x_s: what is computed, in which mode, and what carries gradient."""

from dataclasses import replace

import pytest
import torch

from di4c_cli.core import mixture, parameterization
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.losses import consistency, datapoint, marginal
from di4c_cli.core.networks import mlp
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.samplers import ancestral
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.space import Batch, StateSpace

ROWS, L = 6, 4


@pytest.fixture
def segment():
    """A masked process on 16 positions; t goes from 0.2 to 1 over the rows, s = t / 2."""
    process = MaskedProcess(StateSpace(shape=(16,), num_states=3))
    subs = parameterization.build("subs", process)
    torch.manual_seed(0)
    teacher = NetworkDenoiser(mlp.Config(width=16).build(process.space, lam=False), subs)
    student = MixtureDenoiser(mlp.Config(width=16).build(process.space, lam=True), subs)
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0.2, 1, ROWS, dtype=torch.float64)
    cast = Cast(
        process=process,
        student=student,
        num_latents=L,
        teacher=teacher,
        teacher_sampler=ancestral.Config().build(process),
    )
    x_0 = torch.randint(3, (ROWS, 16), generator=generator)
    return Segment(cast, Batch(x_0), t, t / 2, generator)


def test_nothing_is_computed_before_it_is_read(segment):
    given = {"cast", "batch", "t", "s", "generator"}
    assert vars(segment).keys() == given
    datapoint.Config().build()(segment)
    assert vars(segment).keys() == given | {"x_t", "student_t"}
    marginal.Config().build()(segment)
    assert vars(segment).keys() == given | {"x_t", "student_t", "teacher_law", "teacher_t"}
    consistency.Config().build()(segment)
    assert vars(segment).keys() == given | {
        "x_t", "student_t", "teacher_law", "teacher_t",
        "x_s", "student_s", "target", "target_marginal", "_target",
    }  # fmt: skip


def test_only_the_student_at_t_carries_gradient(segment):
    consistency.Config().build()(segment)
    assert segment.student_t.log_p.requires_grad
    assert not segment.student_s.log_p.requires_grad
    assert not segment.teacher_t.log_p.requires_grad


def test_targets_are_computed_in_evaluation_mode(segment):
    seen = []
    student = segment.cast.student
    body = student.network.body
    student.network.body = lambda *args: seen.append(student.training) or body(*args)
    student.train()
    consistency.Config().build()(segment)
    assert seen == [False, True]  # the target first, then the student at t
    assert student.training


def test_the_chain_only_goes_forward(segment):
    """Visible at t stays so at s; at s nothing is hidden that was not; targets keep what x_s shows."""
    mask = segment.cast.process.mask_id
    x_t, x_s, target = segment.x_t[:, None], segment.x_s, segment.target
    assert x_s.shape == target.shape == (ROWS, L, 16)
    assert ((x_t == mask) | (x_s == x_t)).all()
    assert ((x_s == mask) | (target == x_s)).all()
    assert (target != mask).all()
    assert (x_s[5] != x_s[5, :1]).any()  # L different teacher steps
    assert ((segment.batch.x_0 == segment.x_t) | (segment.x_t == mask)).all()


def test_health_adds_up(segment):
    health = segment.health()
    assert health["marginal"] == pytest.approx(marginal.Config().build()(segment).mean().item())
    assert health["correlation"] == pytest.approx(datapoint.Config().build()(segment).mean().item())
    assert health["marginal_plus_correlation"] == health["marginal"] + health["correlation"]
    assert 1 < health["effective_components"] < L


def test_losses_say_what_they_lack(segment):
    lonely = Segment(
        Cast(process=segment.cast.process, student=segment.cast.student),
        segment.batch,
        segment.t,
        segment.s,
        segment.generator,
    )
    with pytest.raises(ValueError, match="needs a teacher"):
        marginal.Config().build()(lonely)
    with pytest.raises(ValueError, match="needs a teacher"):
        consistency.Config().build()(lonely)


def test_labels_reach_teacher_and_student(segment):
    """As one label for each row, repeated where a datum has L points."""
    seen = []

    def spy(body):
        return lambda x, t, label=None, lam=None: seen.append((len(x), label)) or body(x, t, label, lam)

    for model in (segment.cast.teacher, segment.cast.student):
        model.network.body = spy(model.network.body)
    label = torch.arange(ROWS)
    labelled = Segment(segment.cast, Batch(segment.batch.x_0, label), segment.t, segment.s, segment.generator)
    consistency.Config().build()(labelled)
    assert [rows for rows, _ in seen] == [ROWS, ROWS * L, ROWS]  # teacher, target, student
    for rows, given in seen:
        assert torch.equal(given, label.repeat_interleave(rows // ROWS))


def test_a_part_of_a_segment_shares_what_the_whole_has_computed(segment):
    """Losses of some rows are those rows' losses, and the student runs once."""
    calls = []
    law = segment.cast.student.law
    segment.cast.student.law = lambda *args, **options: calls.append(1) or law(*args, **options)
    rows = torch.tensor([1, 4])
    part = segment.restricted(rows)
    for loss in (datapoint.Config().build(), marginal.Config().build()):
        assert torch.allclose(loss(part), loss(segment)[rows])
    assert calls == [1]
    assert part.x_s.shape == (2, L, 16)
    mask = segment.cast.process.mask_id
    assert ((segment.x_t[rows][:, None] == mask) | (part.x_s == segment.x_t[rows][:, None])).all()
    consistency.Config().build()(part)
    assert "student_s" not in vars(segment)  # targets of the other rows are never computed
    assert segment.restricted(torch.arange(ROWS)) is segment


def test_a_mixture_teacher_steps_each_draw_with_a_lambda_of_its_own(segment):
    """Round two: targets are marginals over K lambdas, and copy l of x_s comes from component l."""
    cast = replace(segment.cast, teacher=segment.cast.student, teacher_draws=L)
    second = Segment(cast, segment.batch, segment.t, segment.s, segment.generator)
    law = second.teacher_law
    assert law.log_p.shape[:2] == (ROWS, L)
    assert torch.allclose(second.teacher_t.log_p, mixture.log_mean_exp(law.log_p, 1))
    seen = []

    class Watching(ancestral.Ancestral):
        def step(self, law, x_t, t, s, generator, num=1):
            seen.append((law.log_p, x_t, num))
            return super().step(law, x_t, t, s, generator, num)

    watched = replace(cast, teacher_sampler=Watching(cast.process))
    second = Segment(watched, segment.batch, segment.t, segment.s, segment.generator)
    assert second.x_s.shape == (ROWS, L, 16)
    log_p, x_t, num = seen[0]
    assert num == 1
    assert torch.equal(log_p, second.teacher_law.log_p.flatten(0, 1))
    assert torch.equal(x_t, second.x_t.repeat_interleave(L, 0))


def test_dropout_stays_on_in_targets_where_the_cast_says_so(segment):
    seen = []
    cast = replace(segment.cast, target_dropout=True)
    student = cast.student
    body = student.network.body
    student.network.body = lambda *args: seen.append(student.training) or body(*args)
    student.train()
    _ = Segment(cast, segment.batch, segment.t, segment.s, segment.generator).student_s
    assert seen == [True]
