"""`di4c bench RECIPE`."""

import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from di4c_cli import shipped
from di4c_cli.cli import arguments, console
from di4c_cli.errors import UsageError
from di4c_cli.files import write_text_atomic

app = typer.Typer(add_completion=False)


@app.command(cls=arguments.RecipeCommand, epilog="di4c bench digits --batch-sizes 1,64 --out bench.json")
def bench(
    recipe: arguments.Recipe,
    overrides: arguments.Overrides = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(metavar="B,B,...", help="Default: 1,8,64, as far as that is quick.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Sampling steps K; default: the recipe's.", show_default=False)
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds of timing; default: some seconds' worth.", show_default=False),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Also how a step's time and memory grow with L, B, D and S.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File for the JSON document.", show_default=False)] = None,
    device: arguments.Device = "auto",
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Measure speed and memory: forward passes, sampling, a distillation step."""
    sizes = arguments.number_list("--batch-sizes", batch_sizes, at_least=1)

    from di4c_cli import recipe_file
    from di4c_cli.bench import bench as measure
    from di4c_cli.files import writing_to

    loaded = recipe_file.load(shipped.find_recipe(recipe), overrides or [])
    if out is not None:
        with writing_to(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise UsageError(f"--out {out}: a folder", "give a file")
    with console.Progress(f"bench {loaded.name}", quiet=quiet) as progress:
        result = measure(
            loaded,
            batch_sizes=sizes,
            steps=steps,
            repeats=repeats,
            fit=fit,
            device=device,
            progress=progress,
            narrate=progress.narrate,
        )
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
    compiled = "".join(f", {what} compiled" for what, done in result["compiled"].items() if done)
    print(
        f"{result['recipe']} on {result['device']} ({result['device_name']}), {result['threads']} threads, "
        f"{result['dtype']}{compiled}, K = {result['steps']}, L = {result['num_latents']}; "
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
    if result["roofline"]:
        print(_roofline_line(result["roofline"]))
    for fit in result["fits"]:
        print(_fit_line(fit))


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
