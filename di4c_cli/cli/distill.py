"""`di4c distill RECIPE`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from di4c_cli.cli import arguments, comparison, console, training
from di4c_cli.cli.hand_over import print_calls
from di4c_cli.errors import Interrupted
from di4c_cli.runs import RunDirectory

app = typer.Typer(add_completion=False)

Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="SOURCE",
        help="A teacher's run or checkpoint folder; a mixture student stands for its own teacher. "
        "Default: the recipe's newest, else the shipped one.",
        show_default=False,
    ),
]


@app.command(cls=arguments.TrainCommand, epilog="di4c distill digits train.steps=500 --name short")
def distill(
    recipe: arguments.RecipeToTrain = None,
    overrides: arguments.Overrides = None,
    teacher: Teacher = None,
    resume: arguments.Resume = None,
    allow_drift: arguments.AllowDrift = False,
    name: arguments.Name = None,
    device: arguments.Device = "auto",
    nproc: arguments.Nproc = 1,
    dry_run: arguments.DryRun = False,
    monitor: arguments.Monitor = False,
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Distil the teacher into the mixture student, and compare the two."""
    request = training.Request(
        role="student",
        recipe=recipe,
        overrides=overrides or [],
        resume=resume,
        allow_drift=allow_drift,
        name=name,
        teacher=teacher,
        device=device,
        nproc=nproc,
        dry_run=dry_run,
        monitor=monitor,
        quiet=quiet,
        json=json,
    )
    outcome = training.execute(request)
    if outcome is None:
        return
    result = outcome.result | {"previews": _newest_previews(RunDirectory(Path(outcome.result["run"])))}
    if outcome.loaded.recipe.metrics:
        result["evaluation"] = _evaluate(outcome, request)
    if json:
        console.print_json(result)
        return
    training.report(result)
    if "hand_over" in result:
        print_calls(result["hand_over"])
    if "evaluation" in result:
        comparison.print_comparison(result["evaluation"])
    for path in result["previews"]:
        print(path)


def _evaluate(outcome: training.Outcome, request: training.Request) -> dict[str, Any]:
    """The comparison; it has nothing to save, so that a signal ends it at once."""
    from di4c_cli import pipeline
    from di4c_cli.session import ended_by_signals

    run = outcome.result["run"]
    try:
        with ended_by_signals(), console.Progress(f"eval {outcome.loaded.name}", quiet=request.quiet) as told:
            return pipeline.evaluate(run, device=request.device, progress=told)
    except Interrupted as error:
        hint = f"the run has finished; compare with: di4c eval {run}"
        raise Interrupted(error.message, hint, exit_code=error.exit_code) from None


def _newest_previews(run: RunDirectory) -> list[str]:
    """The last sampled previews: combined ones if there are any."""
    for folder in reversed(run.samples()):
        combined = [path for path in (folder / "grid.png", folder / "samples.txt") if path.is_file()]
        found = combined or sorted([*folder.glob("*.png"), *folder.glob("*.txt")])
        if found:
            return [str(path) for path in found]
    return []
