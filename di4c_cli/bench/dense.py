"""The distillation's losses the way the paper's code computes them: what ours are measured against.

Every data point is repeated for each of its L draws of lambda, for student and teacher alike: N = B L rows
with nothing shared. All logits (N, D, S) exist at once, with copies for log-softmax, softmax, divergences and
draws; points are drawn by `torch.distributions` and index arithmetic, and read one by one. The values are
those of `core.losses`.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical

from di4c_cli.bench.subject import Term, Trial
from di4c_cli.core.denoiser import Denoiser, MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.mixture import log_mean_exp
from di4c_cli.core.processes._jump import TINY, JumpProcess
from di4c_cli.core.processes.masked import MaskedProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.samplers.ancestral import Ancestral
from di4c_cli.core.segment import Cast
from di4c_cli.core.space import Batch, stratified, uniform

COPIES = 8  # of the logits, about as many as are alive at the peak
INDICES = 12  # and the index tensors of a jump posterior, as copies of the logits


def dense(trial: Trial) -> Tensor:
    """The weighted loss (B,) of a trial."""
    return dense_of(DenseSegment.of(trial, trial.generator()), trial.terms)


def dense_of(segment: "DenseSegment", terms: list[Term]) -> Float[Tensor, " B"]:
    """The weighted loss of a segment; every term at all data points, whatever their weights."""
    total = torch.zeros_like(segment.t)
    for term in terms:
        total = total + term.w * LOSSES[term.section.kind](term.section, segment)
    return total


def foreign(sections: list[Any]) -> list[str]:
    """The kinds of losses that have no dense counterpart here."""
    return [section.kind for section in sections if section.kind not in LOSSES]


def laws_mb(trial: Trial) -> float:
    """About what the dense step takes for laws and draws, MiB."""
    process, rows = trial.cast.process, len(trial.batch) * trial.cast.num_latents
    D, S = process.space.num_dims, process.space.num_states
    entries = COPIES * D * S
    if isinstance(process, JumpProcess) and any(term.section.kind == "consistency" for term in trial.terms):
        entries += INDICES * D * S + 4 * S * S  # two kernels in float64
    return 4 * rows * entries / 2**20


@dataclass(frozen=True)
class DenseSegment:
    """x_0 -> x_t -> x_s with every law dense, for N = B L rows."""

    cast: Cast
    batch: Batch
    t: Float[Tensor, " B"]
    s: Float[Tensor, " B"]
    x_t: Int[Tensor, "B D"]
    lam: Float[Tensor, "B L"]
    generator: torch.Generator

    @classmethod
    def of(cls, trial: Trial, generator: torch.Generator) -> "DenseSegment":
        cast = trial.cast
        x_t = cast.process.sample_forward(trial.batch.x_0, trial.t + cast.noise_ahead, generator)
        lam = stratified(len(x_t), cast.num_latents, generator, trial.device)
        return cls(cast, trial.batch, trial.t, trial.s, x_t, lam, generator)

    def copies(self, value: Tensor) -> Tensor:
        """(N, ...) of (B, ...): a row for each draw of lambda."""
        return value.repeat_interleave(self.lam.shape[1], 0)

    def law(
        self, denoiser: Denoiser, x: Int[Tensor, "N D"], t: Float[Tensor, " B"], lam: Tensor | None
    ) -> Float[Tensor, "N D S"]:
        """A denoiser's log-probabilities at the rows x, those of a datum at its time."""
        each = len(x) // len(t)
        times, label = t.repeat_interleave(each), self.batch.label
        labels = None if label is None else label.repeat_interleave(each)
        if not isinstance(denoiser, NetworkDenoiser | MixtureDenoiser):
            return denoiser(x, times, labels, generator=self.generator).log_p
        latent = lam.reshape(-1, 1) if isinstance(denoiser, MixtureDenoiser) and lam is not None else None
        logits = denoiser.network(x, times, labels, latent)[:, 0]
        return denoiser.parameterization(logits, x, times[:, None])

    def mixture(self, rows: Float[Tensor, "N D S"]) -> Float[Tensor, "B L D S"]:
        """The rows of each datum together."""
        return rows.unflatten(0, (len(self.t), -1))

    @cached_property
    def student_t(self) -> Float[Tensor, "B L D S"]:
        """The student at x_t."""
        return self.mixture(self.law(self.cast.student, self.copies(self.x_t), self.t, self.lam))

    @cached_property
    def teacher_rows(self) -> Float[Tensor, "N D S"]:
        """The teacher at the copies of x_t: equal rows, unless it has a lambda of its own."""
        lam = stratified(*self.lam.shape, generator=self.generator, device=self.t.device)
        with torch.no_grad():
            return self.law(self.cast.teacher, self.copies(self.x_t), self.t, lam)

    @cached_property
    def teacher_t(self) -> Float[Tensor, "B D S"]:
        """The teacher's marginals at x_t."""
        rows = self.mixture(self.teacher_rows)
        return log_mean_exp(rows, 1) if self.cast.teacher_draws > 1 else rows[:, 0]

    @cached_property
    def x_s(self) -> Int[Tensor, "N D"]:
        """A teacher step from every copy of x_t."""
        cast, log_p = self.cast, self.teacher_rows
        x, t, s = (self.copies(value) for value in (self.x_t, self.t, self.s))
        exact = isinstance(cast.teacher_sampler, Ancestral)
        if exact and isinstance(cast.process, MaskedProcess | JumpProcess):
            return ancestral_step(cast.process, log_p, x, t, s)
        return cast.teacher_sampler.step(ProductLaw.dense(log_p), x, t, s, self.generator)[:, 0]

    @cached_property
    def lam_s(self) -> Float[Tensor, "B L"]:
        """The student's lambda at x_s."""
        return stratified(*self.lam.shape, generator=self.generator, device=self.t.device)

    @cached_property
    def student_s(self) -> Float[Tensor, "B L D S"]:
        """The student at x_s, without dropout unless the recipe leaves it on."""
        student = self.cast.student
        was_training = student.training
        student.train(was_training and self.cast.target_dropout)
        with torch.no_grad():
            rows = self.law(student, self.x_s, self.s, self.lam_s)
        student.train(was_training)
        return self.mixture(rows)

    @cached_property
    def target(self) -> Int[Tensor, "B L D"]:
        """A point from every component of `student_s`."""
        return Categorical(logits=self.student_s).sample()


def ancestral_step(
    process: MaskedProcess | JumpProcess,
    log_p: Float[Tensor, "N D S"],
    x_t: Int[Tensor, "N D"],
    t: Float[Tensor, " N"],
    s: Float[Tensor, " N"],
) -> Int[Tensor, "N D"]:
    """x_s from the teacher's law and the exact posterior."""
    if isinstance(process, MaskedProcess):
        stay = process.mask_prob(s)[:, None, None]
        q = log_p.exp() * (process.mask_prob(t)[:, None, None] - stay)
        q[..., process.mask_id] = stay[..., 0]
        return torch.where(x_t == process.mask_id, Categorical(probs=q).sample(), x_t)
    return jump_posterior(process, Categorical(logits=log_p).sample(), x_t, t, s)


def jump_posterior(
    process: JumpProcess,
    x_0: Int[Tensor, "N D"],
    x_t: Int[Tensor, "N D"],
    t: Float[Tensor, " N"],
    s: Float[Tensor, " N"],
) -> Int[Tensor, "N D"]:
    """x_s ~ q_{t|s}(x_t | .) q_{s|0}(. | x_0), by a kernel for every row and indices of all entries."""
    (N, D), S = x_t.shape, process.space.num_states
    states = torch.arange(S, device=x_t.device)
    last, first = (process.rows(states.expand(N, S), *times) for times in ((t, s), (s, torch.zeros_like(s))))
    row = torch.arange(N, device=x_t.device).repeat_interleave(D * S)
    k = states.repeat(N * D)
    q = last[row, k, x_t.flatten().repeat_interleave(S)] * first[row, x_0.flatten().repeat_interleave(S), k]
    return Categorical(probs=q.view(N, D, S) + TINY).sample()


@torch.no_grad()
def sampled(
    denoiser: NetworkDenoiser | MixtureDenoiser,
    process: MaskedProcess | JumpProcess,
    times: list[float],
    batch: Batch,
) -> Int[Tensor, "B D"]:
    """A run of the ancestral sampler with the whole head everywhere; `batch` gives number and labels."""
    generator = torch.Generator(batch.x_0.device).manual_seed(0)
    x = process.sample_prior(len(batch), generator, batch.x_0.device)
    for t, s in itertools.pairwise(times):
        now, then = (torch.full((len(x),), time, dtype=torch.float64, device=x.device) for time in (t, s))
        lam = None
        if isinstance(denoiser, MixtureDenoiser):
            lam = stratified(len(x), 1, generator, x.device)
        log_p = denoiser.parameterization(denoiser.network(x, now, batch.label, lam)[:, 0], x, now[:, None])
        if s > 0:
            x = ancestral_step(process, log_p, x, now, then)
        else:
            x = process.finish(Categorical(logits=log_p).sample(), x)
    return x


def kl(log_p: Float[Tensor, "*rows D S"], log_q: Float[Tensor, "*rows D S"]) -> Float[Tensor, " *rows"]:
    """Summed over positions."""
    return (log_p.exp() * (log_p - log_q)).sum((-2, -1))


def joint_and_marginals(
    log_p: Float[Tensor, "B L D S"], x: Int[Tensor, "B D"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """log p(x) of the mixture, and of the product of its marginals."""
    index = x[:, None, :, None].expand(-1, log_p.shape[1], -1, 1)
    log_f = log_p.gather(-1, index).squeeze(-1)  # (B, L, D)
    return log_mean_exp(log_f.sum(-1), 1), log_mean_exp(log_f, 1).sum(-1)


def marginal(section: Any, segment: DenseSegment) -> Float[Tensor, " B"]:
    return kl(segment.teacher_t, log_mean_exp(segment.student_t, 1))


def datapoint(section: Any, segment: DenseSegment) -> Float[Tensor, " B"]:
    joint, marginals = joint_and_marginals(segment.student_t, segment.batch.x_0)
    return marginals - joint if section.control_variate else -joint


def consistency(section: Any, segment: DenseSegment) -> Float[Tensor, " B"]:
    log_p, target = segment.student_t, segment.target
    value = torch.zeros_like(segment.t)
    for point in range(target.shape[1]):
        joint, marginals = joint_and_marginals(log_p, target[:, point])
        value = value + (marginals - joint if section.control_variate else -joint)
    value = value / target.shape[1]
    if not section.control_variate:
        return value
    return value + kl(log_mean_exp(segment.student_s, 1), log_mean_exp(log_p, 1))


def distillation(section: Any, segment: DenseSegment) -> Float[Tensor, " B"]:
    B = len(segment.t)
    rows = max(1, round(section.share * B))
    if section.at is not None:
        values = _at_own_times(section, segment, rows)
    else:
        teacher = segment.mixture(segment.copies(segment.teacher_t))
        values = kl(teacher, segment.student_t).mean(1)[:rows]
    return torch.cat([values * (B / rows), values.new_zeros(B - rows)])


def _at_own_times(section: Any, segment: DenseSegment, rows: int) -> Float[Tensor, " {rows}"]:
    """The draws, one by one, are those of `core.losses.distillation`."""
    L = segment.lam.shape[1]
    each = L if section.points == "latent" else 1
    device, generator = segment.t.device, segment.generator
    low, high = section.at
    t = low + (high - low) * uniform(rows * each, generator=generator, device=device)
    if section.atom:
        t = t.masked_fill(uniform(len(t), generator=generator, device=device) < section.atom, low)
    batch = segment.batch[torch.arange(rows, device=device).repeat_interleave(each)]
    cast = replace(segment.cast, num_latents=L // each)
    own = DenseSegment.of(Trial(cast, [], batch, t, torch.zeros_like(t)), generator)
    return kl(own.mixture(own.copies(own.teacher_t)), own.student_t).view(rows, L).mean(1)


LOSSES: dict[str, Callable[[Any, DenseSegment], Float[Tensor, " B"]]] = {
    "marginal": marginal,
    "datapoint": datapoint,
    "consistency": consistency,
    "distillation": distillation,
}
"""By the kinds of the recipe's sections."""
