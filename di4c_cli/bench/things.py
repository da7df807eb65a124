"""The calls that are measured, by name, at one batch size."""

from dataclasses import dataclass

import torch

from di4c_cli.bench.dense import dense, foreign, laws_mb
from di4c_cli.bench.steps import Losses, Step, ours
from di4c_cli.bench.subject import Subject
from di4c_cli.bench.timing import Call
from di4c_cli.drawing import draw, every_class
from di4c_cli.sources import plan_of

STEP, LOSSES = "distillation step", "losses"
DENSE = ", dense"
"""Behind the name of a thing: the same the way the paper's code does it."""


def inference(subject: Subject, size: int, steps: int) -> dict[str, Call]:
    """Forward passes, and samples in K steps."""
    subject.student.eval()
    roles = ("teacher", "student")
    forward = {f"{role} forward": _forward(subject, role, size) for role in roles}
    return forward | {f"{role} sampling": _sampling(subject, role, size, steps) for role in roles}


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
