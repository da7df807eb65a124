"""`di4c train-teacher RECIPE`."""

import typer

from di4c_cli.cli import arguments, console, training

app = typer.Typer(add_completion=False)


@app.command(cls=arguments.TrainCommand, epilog="di4c train-teacher digits teacher.train.steps=2000")
def train_teacher(
    recipe: arguments.RecipeToTrain = None,
    overrides: arguments.Overrides = None,
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
    """Train the recipe's product-model teacher."""
    request = training.Request(
        role="teacher",
        recipe=recipe,
        overrides=overrides or [],
        resume=resume,
        allow_drift=allow_drift,
        name=name,
        teacher=None,
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
    if json:
        console.print_json(outcome.result)
    else:
        training.report(outcome.result)
