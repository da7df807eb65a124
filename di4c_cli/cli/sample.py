"""`di4c sample SOURCE`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from di4c_cli import launch
from di4c_cli.cli import arguments, console, several

app = typer.Typer(add_completion=False)

SHOWN_FILES = 10  # more than that are told by their folder


@app.command(
    cls=arguments.RecipeCommand, epilog="di4c sample digits --steps 2 --num 64 --grid --out samples/two"
)
def sample(
    source: arguments.Source,
    overrides: arguments.Overrides = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Network calls K; default: the recipe's.", show_default=False)
    ] = None,
    num: Annotated[
        int | None, typer.Option(min=1, help="How many samples; default: the recipe's.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="How many at a time.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**63 - 1, help="Seed of the draws; default: the recipe's.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder or file to write; default: samples/<recipe>-<model>-<K>, of the last drawing alone.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        Literal["png", "npz", "txt", "jsonl", "smi"] | None,
        typer.Option(help="File format; default: by what is sampled.", show_default=False),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Images, molecules: all of them in grid.png.")] = False,
    label: Annotated[int | None, typer.Option(min=0, help="Class to sample.", show_default=False)] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance weight W.", show_default=False)] = None,
    teacher_steps: Annotated[int, typer.Option(min=0, help="Hybrid: the last calls are the teacher's.")] = 0,
    prefix: Annotated[
        str | None, typer.Option(help="Text that samples begin with.", show_default=False)
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="Another sampler than the recipe's.", metavar="NAME", show_default=False),
    ] = None,
    weights: Annotated[
        Literal["ema", "raw"], typer.Option(help="Averaged weights, or those of the last step.")
    ] = "ema",
    dtype: Annotated[
        Literal["float32", "float64", "bfloat16"], typer.Option(help="Precision of the network.")
    ] = "float32",
    device: arguments.Device = "auto",
    nproc: arguments.Nproc = 1,
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Draw samples in a few steps, to files."""
    if several.wanted(nproc):
        several.run(nproc, device)
        return

    from di4c_cli import pipeline

    with console.Progress(f"sample {source}", quiet=quiet):
        result = pipeline.sample(
            source,
            steps=steps,
            num=num,
            batch_size=batch_size,
            seed=seed,
            out=str(out) if out else None,
            format=format,
            grid=grid,
            label=label,
            guidance=guidance,
            teacher_steps=teacher_steps,
            prefix=prefix,
            sampler=sampler,
            weights=weights,
            dtype=dtype,
            device=device,
            overrides=overrides or [],
        )
    if json:
        console.print_json(result)
        return
    if not (quiet or launch.place()[0]):
        console.narrate(
            f"{result['num']} samples of the {result['model']} at K = {result['steps']} "
            f"from {result['source']}, seed {result['seed']}: {result['seconds']:.1f} s"
        )
    files = [str(path) for path in result["files"]]
    folders = list(dict.fromkeys(str(Path(path).parent) for path in files))
    for path in files if len(files) <= SHOWN_FILES else folders:
        print(path)
