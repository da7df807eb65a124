"""`di4c bench RECIPE`."""

import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from di4c_cli import shipped
from di4c_cli.cli import arguments, console
from di4c_cli.errors import UsageError
from di4c_cli.figures import LETTERS, Setting, varied
from di4c_cli.files import write_text_atomic

app = typer.Typer(add_completion=False)

SAVINGS = """\
A student's run of K calls beside the teacher's shortest that is as good, by {evaluation}.
>: none that was evaluated is as good; against the longest, the saving is a lower bound. at 2K: against twice
the steps, whatever the figure. overhead: against as many steps, that is, of a call (bar: 5 %)."""


@app.command(cls=arguments.RecipeCommand, epilog="di4c bench digits --batch-sizes 1,64 --out bench.json")
def bench(
    recipe: arguments.Recipe,
    overrides: arguments.Overrides = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            metavar="B,B,...",
            help="Default: 1,8,64, with --quality 1,4,16,64,256; as far as that is quick.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Sampling steps K; default: the recipe's.", show_default=False)
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds of timing; default: some seconds' worth.", show_default=False),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            metavar="FIGURE",
            help="Instead: what a student's runs save, at this figure of an evaluation.",
            show_default=False,
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --quality: a results.json; default: the newest student's.",
            show_default=False,
        ),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Also how a step's time and memory grow with L, B, D and S.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File for the JSON document.", show_default=False)] = None,
    device: arguments.Device = "auto",
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Measure speed and memory: forward passes, sampling, a distillation step; or what a student saves."""
    sizes = arguments.number_list("--batch-sizes", batch_sizes, at_least=1)
    if quality is not None and (fit or steps):
        raise UsageError(
            f"--quality {quality}: --steps and --fit are of other measurements", "leave them out"
        )
    if quality is None and evaluation is not None:
        raise UsageError(f"--evaluation {evaluation}: which figure of it?", "add --quality FIGURE")

    from di4c_cli import recipe_file
    from di4c_cli.bench import bench as measure
    from di4c_cli.bench.savings import savings
    from di4c_cli.files import writing_to

    loaded = recipe_file.load(shipped.find_recipe(recipe), overrides or [])
    if out is not None:
        with writing_to(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise UsageError(f"--out {out}: a folder", "give a file")
    with console.Progress(f"bench {loaded.name}", quiet=quiet) as progress:
        common: dict[str, Any] = {
            "batch_sizes": sizes,
            "repeats": repeats,
            "device": device,
            "progress": progress,
            "narrate": progress.narrate,
        }
        if quality is None:
            result = measure(loaded, steps=steps, fit=fit, **common)
        else:
            result = savings(loaded, quality, overrides=overrides or [], evaluation=evaluation, **common)
    if out is not None:
        with writing_to(out):
            write_text_atomic(out, json_format.dumps(result, indent=1) + "\n")
    if json:
        console.print_json(result)
        return
    _print(result)
    if out is not None:
        print(out)


def _print(result: dict[str, Any]) -> None:
    """Everything for the eye."""
    steps = f"K = {result['steps']}, " if "steps" in result else ""
    compiled = "".join(f", {what} compiled" for what, done in result["compiled"].items() if done)
    print(
        f"{result['recipe']} on {result['device']} ({result['device_name']}), {result['threads']} threads, "
        f"{result['dtype']}{compiled}, {steps}L = {result['num_latents']}; "
        "fresh weights and random data, which do not matter for speed"
    )
    columns = {
        "B": lambda row: row["batch_size"],
        "median ms": lambda row: _figure(row["median_ms"]),
        "p10": lambda row: _figure(row["p10_ms"]),
        "p90": lambda row: _figure(row["p90_ms"]),
        "samples/s": lambda row: _figure(row["samples_per_s"]),
        "GFLOP": lambda row: _figure(row["gflop"]),
        "extra MiB": lambda row: _figure(row["extra_mb"]),
        "peak MiB": lambda row: _figure(row["peak_mb"]),
    }
    rows = [[row["what"], *(cell(row) for cell in columns.values())] for row in result["rows"]]
    console.print_table(["", *columns], rows, numbers=list(columns))
    if result["ratios"]:
        names = {"time": "time", "extra memory": "extra_mb", "FLOP": "gflop", "bytes moved": "gb"}
        rows = [
            [row["what"], row["batch_size"], *(_times(row[key]) for key in names.values())]
            for row in result["ratios"]
        ]
        console.print_table(["dense / ours", "B", *names], rows, numbers=["B", *names])
    if result["savings"]:
        _print_savings(result)
    if result["roofline"]:
        print(_roofline_line(result["roofline"]))
    for fit in result["fits"]:
        print(_fit_line(fit))


def _print_savings(result: dict[str, Any]) -> None:
    """A line for each run of the student and batch size."""
    figure, parts = result["savings"][0]["figure"], varied(Setting.of(row) for row in result["savings"])
    bound = {True: "", False: "> "}
    columns = {
        "K": lambda row: row["student_steps"],
        figure: lambda row: console.brief(row["student_value"]),
        "teacher's K": lambda row: f"{bound[row['reached']]}{row['teacher_steps']}",
        f"its {figure}": lambda row: console.brief(row["teacher_value"]),
        "B": lambda row: row["batch_size"],
        "ms": lambda row: _figure(row["student_ms"]),
        "teacher's ms": lambda row: _figure(row["teacher_ms"]),
        "saving": lambda row: f"{bound[row['reached']]}{_times(row['saving'])}",
        "at 2K": lambda row: _times(row["saving_at_2k"]),
        "overhead": lambda row: "" if row["overhead"] is None else f"{100 * row['overhead']:.1f} %",
    }
    rows = [
        [*Setting.of(row).cells(parts), *(cell(row) for cell in columns.values())]
        for row in result["savings"]
    ]
    letters = [LETTERS[part] for part in parts]
    console.print_table([*letters, *columns], rows, numbers=[*letters, *columns])
    print(SAVINGS.format(evaluation=result["evaluation"]))


def _figure(value: float) -> str:
    """Three figures, never as a power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _roofline_line(roofline: dict[str, Any]) -> str:
    return (
        f"{roofline['what']} at B = {roofline['batch_size']}: {_figure(roofline['gflop'])} GFLOP, "
        f"{_figure(roofline['gb'])} GB moved, {_figure(roofline['gflop_per_s'])} GFLOP/s = "
        f"{100 * roofline['share']:.0f} % of this device's matmul rate "
        f"({_figure(roofline['matmul_gflop_per_s'])} GFLOP/s)"
    )


def _fit_line(fit: dict[str, Any]) -> str:
    sizes = ", ".join(str(size) for size in fit["sizes"])
    law = f"; a whole law has {fit['law_slope']:.3g} S" if "law_slope" in fit else ""
    return (
        f"{fit['what']} of a step = {fit['intercept']:.3g} + {fit['slope']:.3g} {fit['over']} {fit['unit']}, "
        f"R^2 = {fit['r2']:.3f} ({fit['over']} = {sizes}{law})"
    )
