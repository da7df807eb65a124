"""THE MAIN PATH: recipe -> data -> teacher -> student -> losses -> trainer -> run -> samples -> evaluation.

`assembly.py` puts a training run together, `starting.py` takes it up where it was, `sources.py` finds models
on disk; what happens then is here.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from di4c_cli import recipe_file
from di4c_cli.assembly import Narrate, Progress, prepare
from di4c_cli.comparing import Measured, compared
from di4c_cli.core import ranks
from di4c_cli.core.hand_over import handed_over
from di4c_cli.core.samplers import Final, network_calls
from di4c_cli.drawing import Conditions, draw, draw_shared
from di4c_cli.errors import Interrupted, UsageError
from di4c_cli.files import writing_to
from di4c_cli.handing_over import hand_over
from di4c_cli.judging import Settings, judge_of, planned, refuse_mixed, report_folder
from di4c_cli.report import write_report
from di4c_cli.runs import RunDirectory
from di4c_cli.session import owned, recorded, stop_on_signals
from di4c_cli.sources import House, load_models, pick_device, plan_of, resolve
from di4c_cli.starting import begin
from di4c_cli.writing import writer_for


def train(
    loaded: recipe_file.LoadedRecipe,
    *,
    role: str,
    device: str = "auto",
    name: str | None = None,
    resume: RunDirectory | None = None,
    teacher: str | None = None,
    matrix: str = "",
    progress: Progress = lambda step, steps, row: None,
    narrate: Narrate = lambda line: None,
) -> dict[str, Any]:
    """Train a recipe's teacher, or distil it into its student; the contract's JSON result.

    Args:
        matrix: the name of the matrix that the run is a cell of.
    """
    trainer, data = prepare(
        loaded, role, ranks.join(pick_device(device)), name, resume, teacher, progress, narrate, matrix
    )
    run, started = trainer.run, time.monotonic()
    narrate(f"run {run.path}")
    with owned(run):
        begin(trainer, loaded, resuming=resume is not None)
        with stop_on_signals() as stop, recorded(run, trainer.status):
            row = trainer.fit(data.train, stop)

            def alive() -> None:
                trainer.breathe()
                if signal := stop():
                    left = f"find the teacher's calls with: di4c hand-over {run.path}"
                    raise Interrupted("stopped; the student is saved", left, exit_code=128 + signal)

            weighed = None
            if role == "student" and loaded.recipe.hand_over is not None:  # before the run counts as finished
                weighed = hand_over(str(run.final), {}, trainer.device, alive)
    result = {
        "run": str(run.path),
        "checkpoint": str(run.final),
        "step": trainer.step,
        "seconds": time.monotonic() - started,
        "final": {key: value for key, value in row.items() if key not in ("step", "time")},
    }
    return result | ({"hand_over": weighed} if weighed else {})


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
    where = ranks.join(pick_device(device))
    given = [*(overrides or []), *([f"sampler.kind={sampler}"] if sampler else [])]
    found = ranks.agreed(lambda: resolve(source, given))
    settings = found.recipe.sample
    steps, num = steps or settings.steps, num or settings.num
    seed = settings.seed if seed is None else seed
    house = House.build(found.recipe, found.path)
    wanted = Conditions.of(house, found.name, label=label, guidance=guidance, prefix=prefix)
    if not 0 <= teacher_steps <= steps:
        raise UsageError(f"--teacher-steps {teacher_steps}: not between 0 and --steps {steps}")
    model = "hybrid" if teacher_steps and found.role == "student" else found.role
    target = Path(out) if out else Path("samples") / f"{found.name}-{model}-{steps}"
    write = writer_for(house.codec, format, target, grid=grid, replace=out is None)
    asks_teacher = teacher_steps or handed_over(found.recipe.sampler.by_teacher, steps)
    needed = {found.role, "teacher" if asks_teacher else found.role}
    models = load_models(found, house, where, needed=needed, weights=weights, dtype=dtype)
    plan = plan_of(found.recipe, models, steps, model, teacher_steps, guidance)
    labels, size = wanted.labels(num), batch_size or settings.batch_size
    started = time.monotonic()
    tokens = draw_shared(house, plan, num, size, seed, where, label=labels, known=wanted.known)
    seconds = time.monotonic() - started
    return {
        "source": found.path,
        "model": model,
        "steps": steps,
        "nfe": network_calls(plan),
        "num": num,
        "seed": seed,
        "seconds": seconds,
        "files": [str(path) for path in ranks.by_first(lambda: write(tokens, labels))],
    }


def evaluate(
    source: str,
    *,
    steps: list[int] | None = None,
    num: int | None = None,
    seeds: list[int] | None = None,
    metrics: list[str] | None = None,
    models: list[str] | None = None,
    guidance: list[float] | None = None,
    temperatures: list[float] | None = None,
    finals: list[Final] | None = None,
    dtypes: list[str] | None = None,
    mixed: bool = False,
    out: str | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    progress: Callable[[int, int, dict[str, Any]], None] = lambda done, total, row: None,
) -> dict[str, Any]:
    """Teacher, student and hybrid side by side at the same seeds; the contract's JSON result."""
    where = ranks.join(pick_device(device))
    found = ranks.agreed(lambda: resolve(source, overrides or []))
    recipe = found.recipe
    settings, num = recipe.eval, num or recipe.eval.num
    house = House.build(recipe, found.path)
    judge = judge_of(house, found.path, metrics, where, house.dataset())
    scales = guidance or settings.guidance or [recipe.guidance.scale]
    asked = Settings(scales, temperatures or [1.0], finals or [recipe.sampler.final])
    trials = []
    for dtype in dtypes or ["float32"]:
        loaded = load_models(found, house, where, dtype=dtype)
        trials += planned(house, loaded, models, steps or settings.steps, asked, seeds or settings.seeds)
    if not mixed:
        refuse_mixed(trials)
    label = judge.labels(num)
    reference = ranks.after_first(lambda: judge.floor(num))
    report = Path(out) if out else report_folder(found.folder, found.name)
    with writing_to(report):
        report.mkdir(parents=True, exist_ok=True)
    measured = {}
    mine = range(ranks.rank(), len(trials), ranks.size())
    for done, number in enumerate(mine):
        trial, started = trials[number], time.monotonic()
        tokens = draw(trial.house, trial.plan, num, settings.batch_size, trial.seed, where, label=label)
        seconds = time.monotonic() - started
        values = judge.measure(tokens, trial.plan, trial.seed, label)
        measured[number] = Measured(trial.told(num), values, seconds / num)
        progress(done + 1, len(mine), measured[number].row)
    rows = {number: row for found_rows in ranks.gathered(measured) for number, row in found_rows.items()}
    teacher = str(found.teacher_folder) if found.teacher_folder else None
    result = {"source": found.path, "teacher": teacher}
    result |= {"reference": reference, "directions": judge.directions}
    result |= {"judges": judge.judges(), **compared([rows[n] for n in sorted(rows)], judge.directions)}

    def written() -> list[Path]:
        with writing_to(report):
            return write_report(result, report)

    return result | {"files": [str(path) for path in ranks.by_first(written)]}
