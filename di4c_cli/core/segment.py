"""One t -> s piece of the reverse chain, and who plays in it. What no loss reads is never computed."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core import readings
from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.law import Law, MixtureOfRows
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.readings import Reading
from di4c_cli.core.samplers import Sampler
from di4c_cli.core.space import Batch


@dataclass(frozen=True, kw_only=True)
class Cast:
    """The models of a training run. Without a teacher, the student learns from data alone."""

    process: ForwardProcess
    student: Denoiser
    num_latents: int = 1
    """L: draws of lambda for each data point."""
    teacher: Denoiser | None = None
    teacher_draws: int = 1
    """K: draws of the teacher's own lambda for each data point, L for a mixture teacher, 1 for a product."""
    teacher_sampler: Sampler | None = None
    noise_ahead: float = 0.0
    """x_t is noised at t + noise_ahead (a defect of the paper's text code, which discretises time twice)."""
    target_dropout: bool = False
    """Whether the consistency target is computed with dropout on (a defect of the paper's pixel code)."""


@dataclass(frozen=True)
class Segment:
    """x_0 -> x_t -> x_s and every law along it, each computed once, when first read."""

    cast: Cast
    batch: Batch
    t: Float[Tensor, " B"]
    s: Float[Tensor, " B"]
    generator: torch.Generator

    @cached_property
    def x_t(self) -> Int[Tensor, "B D"]:
        """x_t ~ q_{t|0}(. | x_0)."""
        noised_at = self.t + self.cast.noise_ahead
        return self.cast.process.sample_forward(self.batch.x_0, noised_at, self.generator)

    @cached_property
    def teacher_law(self) -> MixtureOfRows:
        """The teacher at x_t: one forward pass, without gradient, for its steps and its marginals alike.

        Raises:
            ValueError: the run has no teacher.
        """
        if self.cast.teacher is None:
            raise ValueError("this loss needs a teacher; a teacher's own training takes `denoising`")
        copies = self.x_t[:, None].expand(-1, self.cast.teacher_draws, -1)
        with torch.no_grad():
            law = self.cast.teacher.law_of_draws(copies, self.t, self.batch.label, generator=self.generator)
        return law.detached()

    @cached_property
    def teacher_t(self) -> ProductLaw:
        """The teacher's marginals at x_t."""
        return self.teacher_law.marginal()

    @cached_property
    def student_t(self) -> Law:
        """The student at x_t: the only law that carries gradient."""
        return self.cast.student.law(
            self.x_t, self.t, self.batch.label, generator=self.generator, num_latents=self.cast.num_latents
        )

    @cached_property
    def x_s(self) -> Int[Tensor, "B L D"]:
        """L teacher steps from the same x_t; a mixture teacher takes each with a lambda of its own.

        Raises:
            ValueError: the run has no teacher sampler.
        """
        if self.cast.teacher_sampler is None:
            raise ValueError("this loss needs a teacher sampler")
        K = self.cast.teacher_draws
        x_s = self.cast.teacher_sampler.step(
            self.teacher_t if K == 1 else self.teacher_law.rows,
            self.x_t.repeat_interleave(K, 0),
            self.t.repeat_interleave(K),
            self.s.repeat_interleave(K),
            self.generator,
            self.cast.num_latents // K,
        )
        return x_s.reshape(len(self.x_t), -1, self.x_t.shape[1])

    @cached_property
    def student_s(self) -> MixtureOfRows:
        """The consistency target: the student at the teacher's x_s, in evaluation mode, no gradient."""
        mode: AbstractContextManager[None] = (
            nullcontext() if self.cast.target_dropout else _evaluation_mode(self.cast.student)
        )
        with torch.no_grad(), mode:
            law = self.cast.student.law_of_draws(self.x_s, self.s, self.batch.label, generator=self.generator)
        return law.detached()

    @cached_property
    def target(self) -> Int[Tensor, "B L D"]:
        """x_0 ~ student_s, one from each of its components."""
        return self._target[0]

    @cached_property
    def target_marginal(self) -> ProductLaw:
        """The marginals of student_s."""
        return self._target[1]

    @cached_property
    def _target(self) -> tuple[Int[Tensor, "B L D"], ProductLaw]:
        return self.student_s.draw_each(self.generator)

    def restricted(self, rows: Int[Tensor, " b"]) -> "Segment":
        """The same segment for some of its data points; what all of it shares is computed once."""
        if len(rows) == len(self.batch):
            return self
        return _Part(self.cast, self.batch[rows], self.t[rows], self.s[rows], self.generator, self, rows)

    @property
    def origin(self) -> "Segment":
        """The segment that this is a part of, at last; itself, if it is no part."""
        return self

    def relayed(self, asked: Sequence[Reading]) -> list[Reading]:
        """Readings of this segment's student_t as readings of its origin's."""
        return list(asked)

    def health(self) -> dict[str, float]:
        """What tells success from failure (nats): marginals stay the teacher's while the joint gains.

        correlation is -(J - M) at the data point, 0 while lambda is ignored; the sum must fall.
        """
        x_0 = self.batch.x_0[:, None]
        with torch.no_grad():
            found = self.student_t.answer(
                readings.MarginalKL(self.teacher_t),
                readings.Correlation(x_0),
                readings.EffectiveComponents(x_0),
            )
            marginal, correlation, effective = (values.mean().item() for values in found)
            return {
                "marginal": marginal,
                "correlation": -correlation,
                "marginal_plus_correlation": marginal - correlation,
                "effective_components": effective,
            }


@dataclass(frozen=True)
class _Part(Segment):
    """Some data points of a segment, for a loss that weighs nothing on the others."""

    whole: Segment
    rows: Int[Tensor, " b"]

    @cached_property
    def x_t(self) -> Int[Tensor, "b D"]:
        return self.whole.x_t[self.rows]

    @cached_property
    def teacher_law(self) -> MixtureOfRows:
        return self.whole.teacher_law.of_some(self.rows)

    @cached_property
    def teacher_t(self) -> ProductLaw:
        return self.whole.teacher_t.subset(self.rows)

    @cached_property
    def student_t(self) -> Law:
        return self.whole.student_t.subset(self.rows)

    @property
    def origin(self) -> Segment:
        return self.whole.origin

    def relayed(self, asked: Sequence[Reading]) -> list[Reading]:
        return self.whole.relayed([readings.Among(self.rows, reading) for reading in asked])


@contextmanager
def _evaluation_mode(denoiser: Denoiser) -> Iterator[None]:
    """A module in evaluation mode for a while; a denoiser that is no module is left alone."""
    if not isinstance(denoiser, nn.Module):
        yield
        return
    was_training = denoiser.training
    denoiser.eval()
    try:
        yield
    finally:
        denoiser.train(was_training)
