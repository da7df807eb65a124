"""THE MAIN PATH: recipe -> data -> teacher -> student -> losses -> trainer -> run -> samples -> evaluation.

`assembly.py` puts a training run together, `sources.py` finds models on disk; what happens then is here.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from di4c_cli import recipe_file
from di4c_cli.assembly import Narrate, Progress, prepare
from di4c_cli.core.datasets import spread
from di4c_cli.core.metrics import Metric, Trial
from di4c_cli.drawing import draw
from di4c_cli.errors import UsageError
from di4c_cli.recipe import Recipe
from di4c_cli.report import write_report
from di4c_cli.runs import RunDirectory, runs_root
from di4c_cli.session import recorded, stop_on_signals, writing_to
from di4c_cli.sources import House, Models, load_models, pick_device, plan_of, resolve
from di4c_cli.writing import write_grid, writer_for


def train(
    loaded: recipe_file.LoadedRecipe,
    *,
    role: str,
    device: str = "auto",
    name: str | None = None,
    resume: RunDirectory | None = None,
    teacher: str | None = None,
    progress: Progress = lambda step, steps, row: None,
    narrate: Narrate = lambda line: None,
) -> dict[str, Any]:
    """Train a recipe's teacher, or distil it into its student; the contract's JSON result."""
    trainer, data = prepare(loaded, role, pick_device(device), name, resume, teacher, progress, narrate)
    run, started = trainer.run, time.monotonic()
    narrate(f"run {run.path}")
    with stop_on_signals() as stop, recorded(run, trainer.status):
        row = trainer.fit(data.train, stop)
    return {
        "run": str(run.path),
        "checkpoint": str(run.final),
        "step": trainer.step,
        "seconds": time.monotonic() - started,
        "final": {key: value for key, value in row.items() if key not in ("step", "time")},
    }


def sample(
    source: str,
    *,
    steps: int | None = None,
    num: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    out: str | None = None,
    format: str | None = None,
    grid: bool = False,
    label: int | None = None,
    guidance: float | None = None,
    prefix: str | None = None,
    teacher_steps: int = 0,
    sampler: str | None = None,
    weights: str = "ema",
    dtype: str = "float32",
    device: str = "auto",
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Few-step samples to files; the contract's JSON result."""
    found = resolve(source, [*(overrides or []), *([f"sampler.kind={sampler}"] if sampler else [])])
    settings, where = found.recipe.sample, pick_device(device)
    steps, num = steps or settings.steps, num or settings.num
    seed = settings.seed if seed is None else seed
    house = House.build(found.recipe, found.path)
    for option, value in (("--label", label), ("--guidance", guidance), ("--prefix", prefix)):
        if value is not None:
            raise UsageError(
                f"{option} {value}: {found.name} is not a conditional model", f"leave {option} out"
            )
    if not 0 <= teacher_steps <= steps:
        raise UsageError(f"--teacher-steps {teacher_steps}: not between 0 and --steps {steps}")
    model = "hybrid" if teacher_steps and found.role == "student" else found.role
    target = Path(out) if out else Path("samples") / f"{found.name}-{model}-{steps}"
    chosen, write = writer_for(house.codec, format, target)
    needed = {found.role, "teacher" if teacher_steps else found.role}
    models = load_models(found, house, where, needed=needed, weights=weights, dtype=dtype)
    plan = plan_of(found.recipe, models, steps, model, teacher_steps)
    started = time.monotonic()
    tokens = draw(house, plan, num, batch_size or settings.batch_size, seed, where)
    seconds = time.monotonic() - started
    with writing_to(target):
        files = write(house.codec, tokens, None, target)
        if grid and chosen != "png" and house.codec.modality == "image":
            picture = target.with_suffix(".png") if target.suffix else target / "grid.png"
            write_grid(house.codec, tokens, picture)
            files.append(picture)
    return {
        "source": found.path,
        "model": model,
        "steps": steps,
        "nfe": len(plan),
        "num": num,
        "seed": seed,
        "seconds": seconds,
        "files": [str(path) for path in files],
    }


def evaluate(
    source: str,
    *,
    steps: list[int] | None = None,
    num: int | None = None,
    seeds: list[int] | None = None,
    metrics: list[str] | None = None,
    models: list[str] | None = None,
    out: str | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    progress: Callable[[int, int, dict[str, Any]], None] = lambda done, total, row: None,
) -> dict[str, Any]:
    """Teacher, student and hybrid side by side at the same seeds; the contract's JSON result."""
    found = resolve(source, overrides or [])
    recipe, where = found.recipe, pick_device(device)
    settings = recipe.eval
    house = House.build(recipe, found.path)
    data = house.dataset()
    loaded = load_models(found, house, where)
    measures = chosen_metrics(recipe, metrics)
    directions = {
        name: way for m in measures for name, way in m.directions.items() if not metrics or name in metrics
    }
    cache = runs_root() / ".cache"

    def measured(tokens: torch.Tensor, plan: Any, seed: int) -> dict[str, float]:
        trial = Trial(tokens, house.codec, data, house.process, plan, seed, cache)
        values = {name: value for m in measures for name, value in m(trial).items()}
        return {name: value for name, value in values.items() if name in directions}

    num = num or settings.num
    reference = measured(spread(data.test, num).x_0, None, 0)
    jobs = [
        (model, k, seed)
        for model in wanted_models(models or settings.models, loaded, bool(models))
        for k in steps or settings.steps
        for seed in seeds or settings.seeds
        if model != "hybrid" or k > 1
    ]
    report = Path(out) if out else report_folder(found.folder, found.name)
    with writing_to(report):
        report.mkdir(parents=True, exist_ok=True)
    rows = []
    for done, (model, k, seed) in enumerate(jobs):
        by_teacher = min(k - 1, max(1, round(settings.hybrid_teacher_steps * k))) if model == "hybrid" else 0
        plan = plan_of(recipe, loaded, k, model, by_teacher)
        started = time.monotonic()
        tokens = draw(house, plan, num, settings.batch_size, seed, where)
        seconds = time.monotonic() - started
        row = {"model": model, "steps": k, "nfe": len(plan), "num": num, "seed": seed}
        row |= {"metrics": measured(tokens, plan, seed), "seconds_per_sample": seconds / num}
        rows.append(row)
        progress(done + 1, len(jobs), row)
    result = {"source": found.path, "reference": reference, "directions": directions, "rows": rows}
    with writing_to(report):
        write_report(result, report)
    return result


def wanted_models(names: list[str], loaded: Models, asked: bool) -> list[str]:
    """The models to compare: all that are at hand, or exactly those asked for."""
    here = {"teacher": loaded.teacher, "student": loaded.student, "hybrid": loaded.teacher and loaded.student}
    for name in names:
        if name not in here:
            raise UsageError(f"--models {name}: unknown", f"one of {', '.join(here)}")
        if asked and here[name] is None:
            raise UsageError(
                f"--models {name}: not at hand for this source", "evaluate a finished student run"
            )
    return [name for name in names if here[name] is not None]


def chosen_metrics(recipe: Recipe, names: list[str] | None) -> list[Metric]:
    """The recipe's metrics that give at least one of the figures asked for.

    Raises:
        UsageError: a figure that none of them gives.
    """
    built = [section.build() for section in recipe.metrics]
    known = {name for metric in built for name in metric.directions}
    for name in names or []:
        if name not in known:
            raise UsageError(f"--metrics {name}: not in this recipe", f"it gives {', '.join(sorted(known))}")
    return [metric for metric in built if not names or metric.directions.keys() & set(names)]


def report_folder(checkpoint: Path | None, name: str) -> Path:
    """Beside a run's checkpoint, else (shipped or exact teachers) below the root of runs."""
    if checkpoint is not None and RunDirectory.is_run(checkpoint.parent):
        return checkpoint.parent / "eval"
    return runs_root() / name / "eval"
