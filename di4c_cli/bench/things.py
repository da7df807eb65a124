"""The calls that are measured, by name, at one batch size."""

from dataclasses import dataclass

import torch

from di4c_cli.bench.dense import dense, foreign, jump_posterior, laws_mb, sampled
from di4c_cli.bench.steps import Losses, Step, ours
from di4c_cli.bench.subject import Subject, Trial
from di4c_cli.bench.timing import Call
from di4c_cli.core.denoiser import MixtureDenoiser, NetworkDenoiser
from di4c_cli.core.processes._jump import JumpProcess
from di4c_cli.core.samplers.ancestral import Ancestral
from di4c_cli.drawing import draw, every_class
from di4c_cli.sources import plan_of

STEP, LOSSES, SAMPLING, POSTERIOR = "distillation step", "losses", "sampling", "posterior step"
ROLES = ("teacher", "student")
DENSE = ", dense"
"""Behind the name of a thing: the same the way the paper's code does it."""


def inference(subject: Subject, size: int, steps: int) -> dict[str, Call]:
    """Forward passes, samples in K steps, and posterior steps where they are any work."""
    subject.student.eval()
    calls = {f"{role} forward": _forward(subject, role, size) for role in ROLES}
    calls |= {f"{role} {SAMPLING}": _sampling(subject, role, size, steps) for role in ROLES}
    if isinstance(subject.house.sampler, Ancestral):
        dense_calls = {
            f"{role} {SAMPLING}{DENSE}": _dense_sampling(subject, role, size, steps) for role in ROLES
        }
        calls |= {what: call for what, call in dense_calls.items() if call is not None}
    if isinstance(subject.cast.process, JumpProcess):
        calls |= _posterior(subject.cast.process, subject.trial(size))
    return calls


def _forward(subject: Subject, role: str, size: int) -> Call:
    """The law of every position, one lambda for each row."""
    trial, model = subject.trial(size), getattr(subject.sampled, role)
    x_t = subject.cast.process.sample_forward(trial.batch.x_0, trial.t, trial.generator())

    @torch.no_grad()
    def call() -> object:
        return model(x_t, trial.t, trial.batch.label, generator=trial.generator()).log_p

    return call


def _sampling(subject: Subject, role: str, size: int, steps: int) -> Call:
    plan = plan_of(subject.recipe, subject.sampled, steps, role, 0)
    label = every_class(subject.recipe, size)
    return lambda: draw(subject.house, plan, size, size, 0, subject.device, label=label)


def _dense_sampling(subject: Subject, role: str, size: int, steps: int) -> Call | None:
    """None for a denoiser that is no network."""
    model, batch = getattr(subject.sampled, role), subject.trial(size).batch
    if not isinstance(model, NetworkDenoiser | MixtureDenoiser):
        return None
    process, times = subject.cast.process, subject.recipe.sampler.times(steps)
    return lambda: sampled(model, process, times, batch)


def _posterior(process: JumpProcess, trial: Trial) -> dict[str, Call]:
    """x_s from x_0 and x_t, all rows at one time in the middle of a run."""
    t = torch.full_like(trial.t, 0.5)
    s, x_0 = t - 0.1, trial.batch.x_0
    x_t = process.sample_forward(x_0, t, trial.generator())
    return {
        POSTERIOR: lambda: process.sample_posterior(x_0, x_t, t, s, trial.generator()),
        POSTERIOR + DENSE: lambda: jump_posterior(process, x_0, x_t, t, s),
    }


@dataclass(frozen=True)
class Training:
    """Steps of distillation, and losses without the bodies of the networks."""

    calls: dict[str, Call]
    foreseen: dict[str, float]
    """MiB that the dense ones take for laws."""


def training(subject: Subject, step: Step, size: int) -> Training:
    """Ours, and the dense ones where the recipe's losses have such."""
    subject.student.train()
    trial = subject.trial(size)
    losses = Losses(trial)
    calls: dict[str, Call] = {
        STEP: lambda: step(ours, trial),
        STEP + DENSE: lambda: step(dense, trial),
        LOSSES: lambda: losses(ours),
        LOSSES + DENSE: lambda: losses(dense),
    }
    if foreign(subject.recipe.losses):
        return Training({what: call for what, call in calls.items() if not what.endswith(DENSE)}, {})
    needed = laws_mb(trial)
    return Training(calls, {what: needed for what in calls if what.endswith(DENSE)})
