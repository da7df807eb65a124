"""What a student saves: the time of its runs beside those of the teacher that they replace.

An evaluation tells how many steps the teacher takes to be as good in one figure; the clock tells what that is
worth at each batch size. All runs of a batch size are timed in turn.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from di4c_cli import recipe_file
from di4c_cli.bench import described, runner_of
from di4c_cli.bench.evaluation import Evaluation
from di4c_cli.bench.measuring import Runner
from di4c_cli.bench.subject import Subject
from di4c_cli.bench.timing import Call
from di4c_cli.core.metrics import Direction
from di4c_cli.core.tempering import at_temperature
from di4c_cli.drawing import draw, every_class
from di4c_cli.errors import UsageError
from di4c_cli.figures import Group, Setting, varied
from di4c_cli.judging import ending
from di4c_cli.sources import built, pick_device, plan_of

BATCH_SIZES = (1, 4, 16, 64, 256)


@dataclass(frozen=True)
class Run:
    """A whole sampling run: K calls of a model, and the draws."""

    role: str
    steps: int
    setting: Setting

    def call(self, subject: Subject, size: int) -> Call:
        recipe, label = subject.recipe, every_class(subject.recipe, size)
        plan = plan_of(recipe, subject.sampled, self.steps, self.role, 0, self.setting.guidance)
        plan = at_temperature(plan, self.setting.temperature)
        house = ending(subject.house, self.setting.final or recipe.sampler.final)
        return lambda: draw(house, plan, size, size, 0, subject.device, label=label)


@dataclass(frozen=True)
class Pair:
    """A student's run, and the shortest of the teacher's that is at least as good."""

    student: Run
    value: float
    teacher: Run
    """The longest that was evaluated, where none is as good."""
    teacher_value: float
    reached: bool

    @property
    def equal(self) -> Run:
        """The teacher's at the student's number of steps."""
        return replace(self.teacher, steps=self.student.steps)

    @property
    def double(self) -> Run:
        """The teacher's at twice the steps, whatever its figure."""
        return replace(self.teacher, steps=2 * self.student.steps)


def paired(groups: Iterable[Group], figure: str, direction: Direction) -> list[Pair]:
    """What each run of the student replaces, by the means of a figure; runs without one are left out."""
    sign = -1 if direction == "lower" else 1
    known = {
        Run(group.model, group.steps, group.setting): group.metrics[figure].mean
        for group in sorted(groups, key=lambda group: group.steps)
        if figure in group.metrics and math.isfinite(group.metrics[figure].mean)
    }
    pairs = []
    for student, value in known.items():
        teachers = [run for run in known if (run.role, run.setting) == ("teacher", student.setting)]
        if student.role == "student" and teachers:
            good = [run for run in teachers if sign * known[run] >= sign * value]
            teacher = good[0] if good else teachers[-1]
            pairs.append(Pair(student, value, teacher, known[teacher], bool(good)))
    return pairs


def savings(
    loaded: recipe_file.LoadedRecipe,
    figure: str,
    *,
    overrides: Sequence[str] = (),
    evaluation: Path | None = None,
    batch_sizes: Sequence[int] | None = None,
    repeats: int | None = None,
    device: str = "auto",
    progress: Callable[[int, int, dict[str, Any]], None] = lambda done, total, row: None,
    narrate: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Time every run of an evaluation's student, and the teacher's that stand against it.

    Args:
        figure: of the evaluation; it decides which of the teacher's runs is as good.
        overrides: of the recipe, as `loaded` has them.
        evaluation: a results.json; None: that of the newest finished student.
        batch_sizes: measured as far as memory goes; None: 1 to 256, as far as patience goes.
    """
    where = pick_device(device)
    found = Evaluation.find(loaded, overrides, evaluation, narrate)
    pairs = pairs_of(found, figure)
    subject = Subject.build(found.loaded, where)
    subject.student.eval()
    runner = runner_of(subject, repeats, batch_sizes is not None, narrate)
    names = named(pairs)
    sizes = sorted(set(batch_sizes or BATCH_SIZES))
    for done, size in enumerate(sizes):
        calls = {name: run.call(subject, size) for run, name in names.items()}
        built(
            found.loaded.path,
            "sampler",
            lambda calls=calls, size=size: runner.measure(size, calls, {}),
        )
        progress(done + 1, len(sizes), {})
    return described(loaded.name, subject, runner) | {
        "evaluation": str(found.path),
        "savings": [
            {"figure": figure, **row}
            for pair in pairs
            for size in sizes
            for row in saved(pair, names, runner, size)
        ],
    }


def pairs_of(evaluation: Evaluation, figure: str) -> list[Pair]:
    """Raises UsageError for a figure that ranks nothing there, or where there is nothing to be ranked."""
    results = evaluation.results
    judging = [name for name, way in results.directions.items() if way != "report"]
    if figure not in judging:
        raise UsageError(
            f"--quality {figure}: no figure of {evaluation.path} that has a better and a worse",
            f"it has {', '.join(judging) or 'none'}",
        )
    pairs = paired(results.groups(), figure, results.directions[figure])
    if not pairs:
        raise UsageError(
            f"{evaluation.path}: {figure} is not known of both a student and its teacher",
            "di4c eval SOURCE --models teacher,student",
        )
    return pairs


def named(pairs: Iterable[Pair]) -> dict[Run, str]:
    """All runs that are timed, each once, by names that tell them apart."""
    found = {run for pair in pairs for run in (pair.student, pair.equal, pair.teacher, pair.double)}
    runs = sorted(found, key=lambda run: (run.role, run.steps, str(run.setting)))
    parts = varied(run.setting for run in runs)
    labels = {run: run.setting.label(parts) for run in runs}
    return {run: f"{run.role}, K = {run.steps}{', ' * bool(label)}{label}" for run, label in labels.items()}


def saved(pair: Pair, names: dict[Run, str], runner: Runner, size: int) -> list[dict[str, Any]]:
    """The row of a pair at a batch size; none where it was not measured."""

    def median(run: Run) -> float | None:
        row = runner.row(names[run], size)
        return None if row is None else row.median_ms

    student, teacher = median(pair.student), median(pair.teacher)
    if student is None or teacher is None:
        return []
    double, equal = median(pair.double), median(pair.equal)
    told = {
        "student_steps": pair.student.steps,
        "student_value": pair.value,
        "teacher_steps": pair.teacher.steps,
        "teacher_value": pair.teacher_value,
        "reached": pair.reached,
        "batch_size": size,
        "student_ms": student,
        "teacher_ms": teacher,
        "saving": teacher / student,
        "saving_at_2k": None if double is None else double / student,
        "overhead": None if equal is None else student / equal - 1,
    }
    return [told | {name: value for name, value in asdict(pair.student.setting).items() if value is not None}]
