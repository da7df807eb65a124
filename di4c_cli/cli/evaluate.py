"""`di4c eval SOURCE`."""

from pathlib import Path
from typing import Annotated

import typer

from di4c_cli.cli import arguments, comparison, console, several

app = typer.Typer(add_completion=False)


@app.command(
    cls=arguments.RecipeCommand, epilog="di4c eval digits --steps 1,2,4 --seeds 0,1,2 --out results/digits"
)
def evaluate(
    source: arguments.Source,
    overrides: arguments.Overrides = None,
    steps: Annotated[
        str | None,
        typer.Option(metavar="K,K,...", help="Numbers of steps; default: the recipe's.", show_default=False),
    ] = None,
    num: Annotated[
        int | None, typer.Option(min=1, help="Samples of each model, K and seed.", show_default=False)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Sampling seeds.", show_default=False)
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Some of the recipe's metrics.", show_default=False)
    ] = None,
    models: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Of teacher, student, hybrid.", show_default=False)
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(metavar="W,W,...", help="Guidance weights; default: the recipe's.", show_default=False),
    ] = None,
    temperatures: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...", help="Sampling temperatures; 1 is the model itself.", show_default=False
        ),
    ] = None,
    final: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Ends of a run: sample, argmax.", show_default=False),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Precisions of the networks: float32, float64, bfloat16.",
            show_default=False,
        ),
    ] = None,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Compare rows of different precision or sampler tail all the same."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.json, results.md and frontier.png; default: eval/ of the run, in place "
            "of what is there.",
            show_default=False,
        ),
    ] = None,
    device: arguments.Device = "auto",
    nproc: arguments.Nproc = 1,
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Compare teacher, student and hybrid over numbers of steps."""
    step_counts = arguments.number_list("--steps", steps, at_least=1)
    seed_list = arguments.number_list("--seeds", seeds, at_least=0)
    scales = arguments.weight_list("--guidance", guidance)
    heats = arguments.temperature_list("--temperatures", temperatures)
    finals = arguments.choice_list("--final", final, ("sample", "argmax"))
    dtypes = arguments.choice_list("--dtype", dtype, ("float32", "float64", "bfloat16"))

    if several.wanted(nproc):
        several.run(nproc, device)
        return

    from di4c_cli import pipeline

    with console.Progress(f"eval {source}", quiet=quiet) as progress:
        result = pipeline.evaluate(
            source,
            steps=step_counts,
            num=num,
            seeds=seed_list,
            metrics=arguments.word_list("--metrics", metrics),
            models=arguments.word_list("--models", models),
            guidance=scales,
            temperatures=heats,
            finals=finals,
            dtypes=dtypes,
            mixed=mixed,
            out=str(out) if out else None,
            device=device,
            overrides=overrides or [],
            progress=progress,
        )
    if json:
        console.print_json(result)
        return
    comparison.print_comparison(result)
    for path in result["files"]:
        print(path)
