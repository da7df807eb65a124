"""What `train-teacher` and `distill` share: from arguments to a finished run."""

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from di4c_cli import launch, shipped
from di4c_cli.cli import console, several
from di4c_cli.cli.resuming import COMMANDS, recipe_to_resume, run_to_resume, teacher_to_resume
from di4c_cli.errors import UsageError
from di4c_cli.runs import RunDirectory

if TYPE_CHECKING:
    from di4c_cli.recipe_file import LoadedRecipe


@dataclass(frozen=True, kw_only=True)
class Request:
    """One training command line."""

    role: str
    recipe: str | None
    overrides: list[str]
    resume: str | None
    """A run; "" for the newest of the recipe; None to start afresh."""
    name: str | None
    teacher: str | None
    device: str
    nproc: int
    dry_run: bool
    monitor: bool
    quiet: bool
    json: bool
    allow_drift: bool = False

    @property
    def command(self) -> str:
        return COMMANDS[self.role]


@dataclass(frozen=True)
class Outcome:
    """A finished run: the recipe as it was trained, and the contract's result."""

    loaded: "LoadedRecipe"
    result: dict[str, Any]


def execute(request: Request) -> Outcome | None:
    """Train as requested; None where this process trained nothing: a dry run, or others did it and told."""
    request = _sorted_out(request)
    _check(request)
    resume, role, recipe = request.resume, request.role, request.recipe
    run = None if resume is None else run_to_resume(resume, role, recipe)
    loaded = _load(request, run)
    if request.monitor:
        _watch(request, run)
        return None
    teacher = request.teacher
    if run is not None:
        teacher = teacher_to_resume(run, loaded, teacher, allow_drift=request.allow_drift)
    if request.dry_run:
        from di4c_cli.rehearsal import dry_run

        with console.Progress(f"{request.command} {loaded.name}", quiet=request.quiet):
            facts = dry_run(loaded, request.role, teacher, request.nproc, request.name)
        console.print_json(facts) if request.json else console.print_facts(facts)
        return None

    if several.wanted(request.nproc):
        several.run(request.nproc, request.device)
        return None

    from di4c_cli import pipeline

    with console.Progress(f"{request.command} {loaded.name}", quiet=request.quiet) as progress:
        result = pipeline.train(
            loaded,
            role=request.role,
            device=request.device,
            name=request.name,
            resume=run,
            teacher=teacher,
            progress=progress,
            narrate=progress.narrate,
        )
    return Outcome(loaded, result)


def report(result: dict[str, Any]) -> None:
    """A run's result for people, on stdout."""
    shown = {key: result[key] for key in ("run", "checkpoint", "step")}
    shown["time"] = console.clock(result["seconds"])
    told_elsewhere = ("elapsed", "lr", "grad_norm", "memory_mb")
    console.print_facts(shown | {key: v for key, v in result["final"].items() if key not in told_elsewhere})


def _sorted_out(request: Request) -> Request:
    """With `--resume RUN`, RECIPE may be left out: what stands in its place may be the first override."""
    first = request.recipe
    if first is not None and "=" in first and not Path(first).is_file():
        return replace(request, recipe=None, overrides=[first, *request.overrides])
    return request


def _check(request: Request) -> None:
    command = f"di4c {request.command}"
    if request.recipe is None and request.resume is None:
        raise UsageError(
            f"{command}: which recipe?", f"as in `{command} digits`; `di4c recipes` lists the shipped ones"
        )
    if request.name is not None and request.resume is not None:
        raise UsageError("--name and --resume do not go together", "a resumed run keeps its name")
    if request.monitor:
        for flag, given in (("--json", request.json), ("--dry-run", request.dry_run)):
            if given:
                raise UsageError(f"--monitor and {flag} do not go together", "the monitor needs the terminal")
        if request.nproc > 1:
            raise UsageError(
                "--monitor and --nproc do not go together", "run `di4c monitor` in another terminal"
            )
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                "--monitor needs a terminal", "leave it out, and run `di4c monitor` in a terminal"
            )


def _load(request: Request, run: RunDirectory | None) -> "LoadedRecipe":
    """The recipe to train with."""
    from di4c_cli import recipe_file

    if run is None:
        return recipe_file.load(shipped.find_recipe(request.recipe or ""), request.overrides)
    quiet = request.quiet or launch.place()[0] > 0 or several.wanted(request.nproc)
    return recipe_to_resume(
        run, request.recipe, request.overrides, allow_drift=request.allow_drift, quiet=quiet
    )


# -- the monitor in front ------------------------------------------------------------------------


def _watch(request: Request, run: RunDirectory | None) -> None:
    """Train in a process of its own, with the monitor in front; leaving the monitor leaves the run alive."""
    launched = launch.start(_command_line(request))
    try:
        found = run or _wait_for_run(launched)
    except KeyboardInterrupt:  # nobody has seen the run yet: stop it too
        launched.process.terminate()
        raise
    if found is not None:
        subprocess.run(launch.command(["monitor", str(found.path)]), check=False)
    code = launched.poll()
    if code is None:
        name = found.name if found else request.recipe
        console.narrate(f"{name} goes on as process {launched.process.pid}; look again with `di4c monitor`")
    elif code != 0:
        sys.stderr.write(launched.complaint())
        raise typer.Exit(code)


def _command_line(request: Request) -> list[str]:
    """The same training without the monitor."""
    options = {
        "--resume": request.resume,
        "--name": request.name,
        "--teacher": request.teacher,
        "--device": request.device,
    }
    given = [f"{option}={value}" for option, value in options.items() if value is not None]
    given += ["--allow-drift"] if request.allow_drift else []
    recipe = [request.recipe] if request.recipe is not None else []
    return launch.command([request.command, "--quiet", *given, *recipe, *request.overrides])


def _wait_for_run(launched: launch.Launched) -> RunDirectory | None:
    """The run that a training process has begun; None if the process ends before it does."""
    while launched.poll() is None:
        if run := launched.run():
            return run
        time.sleep(0.2)
    return None
