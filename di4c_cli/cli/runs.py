"""`di4c runs`: what ran, its state and last figures."""

import csv
import io
import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from di4c_cli.cli import arguments, console
from di4c_cli.drift import differences
from di4c_cli.errors import UsageError
from di4c_cli.files import write_text_atomic
from di4c_cli.runs import RunDirectory, age, runs_root

app = typer.Typer(add_completion=False, invoke_without_command=True)


@app.callback()
def runs(ctx: typer.Context, json: arguments.Json = False) -> None:
    """List the runs; show, compare and export them."""
    if ctx.invoked_subcommand is not None:
        return
    found = [_summary(run) for run in RunDirectory.find_all()]
    if json:
        console.print_json(found)
    elif not found:
        console.narrate(f"no runs below {runs_root()} yet; start one: di4c distill digits")
    else:
        columns = ["run", "role", "state", "step", "of", "updated"]
        rows = [
            [_name(run), run["role"], run["state"], run["step"], run["steps"], age(run["updated"])]
            for run in found
        ]
        console.print_table(columns, rows, numbers=["step", "of", "updated"])


@app.command()
def show(run: arguments.Run, json: arguments.Json = False) -> None:
    """State, checkpoints, previews and last figures of one run."""
    found = RunDirectory.resolve(run)
    status, facts = found.status(), told(found)
    if json:
        console.print_json(facts)
        return
    shown = {key: facts[key] for key in ("run", "recipe", "role", "state")}
    shown["step"] = f"{status.step} of {status.steps}"
    shown["time"] = console.clock(status.elapsed)
    if status.message:
        shown["message"] = status.message
    shown["updated"] = f"{age(facts['updated'])} ago"
    shown["checkpoint"] = facts["final"] or (facts["checkpoints"] or ["none yet"])[-1]
    shown["previews"] = (facts["samples"] or ["none yet"])[-1]
    figures = {key: value for key, value in facts["last"].items() if key not in ("step", "time", "elapsed")}
    console.print_facts(shown | figures)


def told(run: RunDirectory) -> dict[str, Any]:
    """Everything about a run, as `runs show --json` tells it."""
    last: dict[str, Any] = {}
    for row in run.metrics():
        last |= row
    return {
        **_summary(run),
        "status": asdict(run.status()),
        "checkpoints": [str(path) for path in run.checkpoints()],
        "final": str(run.final) if run.final.is_dir() else None,
        "samples": [str(path) for path in run.samples()],
        "last": last,
    }


@app.command()
def diff(a: arguments.Run, b: arguments.Run, json: arguments.Json = False) -> None:
    """Recipe values in which two runs differ."""
    first, second = RunDirectory.resolve(a), RunDirectory.resolve(b)
    values = [run.resolved().get("values", {}) for run in (first, second)]
    different = {key: [old, new] for key, old, new in differences(*values)}
    if json:
        console.print_json({"a": first.path, "b": second.path, "differences": different})
    elif not different:
        console.narrate(f"{first.name} and {second.name} have the same recipe values")
    else:
        rows = [[key, jsonlib.dumps(old), jsonlib.dumps(new)] for key, (old, new) in different.items()]
        console.print_table(["key", first.name, second.name], rows)


@app.command()
def export(
    run: arguments.Run,
    csv_file: Annotated[
        str, typer.Option("--csv", metavar="FILE", help="Where to; `-` is stdout.", show_default=False)
    ],
    json: arguments.Json = False,
) -> None:
    """The curves of a run as a table for other programs."""
    found = RunDirectory.resolve(run)
    rows = list(found.metrics())
    if not rows:
        raise UsageError(f"{found.path}: has no figures yet", "it must have trained for some steps")
    if json and csv_file == "-":
        raise UsageError("--json and --csv - do not go together", "give --csv a file")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if csv_file == "-":
        print(text.getvalue(), end="")
        return
    try:
        write_text_atomic(Path(csv_file), text.getvalue())
    except OSError as error:
        raise UsageError(f"--csv {csv_file}: {error.strerror}") from None
    if json:
        console.print_json({"run": found.path, "file": csv_file, "rows": len(rows), "columns": columns})
    else:
        print(csv_file)


def _summary(run: RunDirectory) -> dict[str, Any]:
    status = run.status()
    figures = {"loss": None, "samples_per_s": None}
    return {
        "run": str(run.path),
        "recipe": status.recipe or run.path.parent.name,
        "role": status.role,
        "state": status.visible_state,
        "step": status.step,
        "steps": status.steps,
        "updated": run.last_seen(status),
        **figures,
        **run.last_figures(*figures),
    }


def _name(summary: dict[str, Any]) -> str:
    return RunDirectory(Path(summary["run"])).name
