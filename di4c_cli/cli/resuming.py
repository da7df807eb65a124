"""`--resume`: which run goes on, and with which values."""

from typing import TYPE_CHECKING, Any

from di4c_cli import drift, shipped
from di4c_cli.cli import console
from di4c_cli.errors import UsageError
from di4c_cli.runs import RunDirectory

if TYPE_CHECKING:
    from di4c_cli.recipe_file import LoadedRecipe

COMMANDS = {"teacher": "train-teacher", "student": "distill"}
"""The command that makes a run of each role."""


def run_to_resume(text: str, role: str, recipe: str | None) -> RunDirectory:
    """The run that is named, or the newest of the role and recipe for "" and `latest`.

    Raises:
        UsageError: there is none, it is of another role or recipe, still running, or has links in it.
    """
    name = shipped.find_recipe(recipe).stem if recipe else None
    run = _newest(role, name) if text in ("", "latest") else RunDirectory.resolve(text)
    made_of = run.resolved().get("recipe")
    if name and made_of and name != made_of:
        raise UsageError(f"{run.path}: is a run of {made_of}, not of {name}", "leave the recipe out")
    status = run.status()
    if status.role and status.role != role:
        raise UsageError(
            f"{run.path}: is a {status.role} run",
            f"continue it with `di4c {COMMANDS[status.role]} --resume {run.name}`",
        )
    if status.visible_state == "running":
        raise UsageError(
            f"{run.path}: is still running (process {status.pid} on {status.host})", "stop it first"
        )
    run.refuse_links()
    return run


def _newest(role: str, recipe: str | None) -> RunDirectory:
    runs = [run for run in RunDirectory.find_all() if run.status().role == role]
    runs = [run for run in runs if recipe in (None, run.path.parent.name)]
    if not runs:
        of = f" of {recipe}" if recipe else ""
        raise UsageError(f"--resume: there is no {role} run{of} yet", "`di4c runs` lists the runs")
    return runs[-1]


def recipe_to_resume(
    run: RunDirectory, recipe: str | None, overrides: list[str], *, allow_drift: bool, quiet: bool
) -> "LoadedRecipe":
    """What a run goes on with: its own recipe and the overrides; where drift is allowed, what is given now.

    Raises:
        UsageError: what is given would change the training that was begun, and that is not allowed.
        RecipeError: the file or an override is wrong.
    """
    from di4c_cli import recipe_file

    before: dict[str, Any] = run.resolved().get("values", {})
    path = shipped.find_recipe(recipe) if recipe else None
    if path and allow_drift:
        loaded = recipe_file.load(path, overrides)
    else:
        loaded = recipe_file.load_run(run, overrides)
    found = drift.changes(before, recipe_file.resolved(loaded)["values"])
    if before and not allow_drift:
        file = drift.of_file(before, recipe_file.resolved(recipe_file.load(path))["values"]) if path else []
        drift.refuse(run.path, [*found, *file])
    for difference in found if not quiet else []:
        console.narrate(f"{run.name}: {drift.told(difference)}")
    return loaded


def teacher_to_resume(
    run: RunDirectory, loaded: "LoadedRecipe", named: str | None, *, allow_drift: bool
) -> str | None:
    """The teacher that a run goes on with: its own, whatever its place; None where it has no checkpoint.

    Raises:
        UsageError: it would be another, and that is not allowed.
        CheckpointError: it is gone.
    """
    from di4c_cli import lineage, sources

    if named is None:
        return lineage.to_resume(run, allow_drift=allow_drift)
    if allow_drift:
        return named
    stated = lineage.Stated.of(run.resolved())
    if stated is None or stated.sha256 is None:
        raise UsageError(
            "--teacher and --resume do not go together: a run keeps its teacher", "or add --allow-drift"
        )
    if lineage.weights_hash(sources.find_teacher(loaded, named)) != stated.sha256:
        raise UsageError(
            f"--teacher {named}: has other weights than the teacher of {run.path}", "or add --allow-drift"
        )
    return named
