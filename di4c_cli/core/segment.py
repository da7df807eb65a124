"""One t -> s piece of the reverse chain, and who plays in it. What no loss reads is never computed."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.law import Law, MixtureLaw, ProductLaw
from di4c_cli.core.processes import ForwardProcess
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
    teacher_sampler: Sampler | None = None


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
        return self.cast.process.sample_forward(self.batch.x_0, self.t, self.generator)

    @cached_property
    def teacher_t(self) -> ProductLaw:
        """The teacher at x_t: one forward pass, without gradient, for its step and its marginals alike.

        Raises:
            ValueError: the run has no teacher.
        """
        if self.cast.teacher is None:
            raise ValueError("this loss needs a teacher; a teacher's own training takes `denoising`")
        with torch.no_grad():
            law = self.cast.teacher(self.x_t, self.t, self.batch.label, generator=self.generator)
            _ = law.log_p
        return law

    @cached_property
    def student_t(self) -> Law:
        """The student at x_t: the only law that carries gradient."""
        return self.cast.student.law(
            self.x_t, self.t, self.batch.label, generator=self.generator, num_latents=self.cast.num_latents
        )

    @cached_property
    def x_s(self) -> Int[Tensor, "B L D"]:
        """L teacher steps from the same x_t."""
        if self.cast.teacher_sampler is None:
            raise ValueError("this loss needs a teacher sampler")
        with torch.no_grad():
            return self.cast.teacher_sampler.step(
                self.teacher_t, self.x_t, self.t, self.s, self.generator, self.cast.num_latents
            )

    @cached_property
    def student_s(self) -> MixtureLaw:
        """The consistency target: the student at the teacher's x_s, in evaluation mode, no gradient."""
        with torch.no_grad(), _evaluation_mode(self.cast.student):
            law = self.cast.student.law_of_draws(self.x_s, self.s, self.batch.label, generator=self.generator)
            _ = law.log_p
        return law

    @cached_property
    def target(self) -> Int[Tensor, "B L D"]:
        """x_0 ~ student_s, one from each of its components."""
        return self.student_s.draw_each(self.generator)

    def health(self) -> dict[str, float]:
        """What tells success from failure (nats): marginals stay the teacher's while the joint gains.

        correlation is -(J - M) at the data point, 0 while lambda is ignored; the sum must fall.
        """
        x_0 = self.batch.x_0[:, None]
        with torch.no_grad():
            law = self.student_t
            correlation = -law.correlation(x_0).mean().item()
            teacher = self.teacher_t.log_p
            marginal = (teacher.exp() * (teacher - law.log_marginal())).sum((-2, -1)).mean().item()
            return {
                "marginal": marginal,
                "correlation": correlation,
                "marginal_plus_correlation": marginal + correlation,
                "effective_components": law.effective_components(x_0).mean().item(),
            }


class _evaluation_mode:
    """A module in evaluation mode for a while; a denoiser that is no module is left alone."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.module = denoiser if isinstance(denoiser, nn.Module) else None

    def __enter__(self) -> None:
        self.was_training = self.module is not None and self.module.training
        if self.module is not None:
            self.module.eval()

    def __exit__(self, *_: object) -> None:
        if self.module is not None:
            self.module.train(self.was_training)
