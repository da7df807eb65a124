"""`di4c matrix RECIPE`."""

from pathlib import Path
from typing import Annotated

import typer

from di4c_cli import shipped
from di4c_cli.cli import arguments, console

app = typer.Typer(add_completion=False)


@app.command(
    cls=arguments.RecipeCommand,
    epilog="di4c matrix mnist --over process.schedule=linear,cosine --over network.width=64,256",
)
def matrix(
    recipe: arguments.Recipe,
    overrides: arguments.Overrides = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=A,B,C",
            help="What varies; several times for several axes. 'KEY=A OTHER=1; KEY=B OTHER=2' sets keys "
            "together, 'NAME: ...' names a value, train.seed is averaged over.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="What its runs begin with.")] = "matrix",
    figure: Annotated[
        str | None, typer.Option(help="What the table shows; default: the first.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for matrix.json, matrix.md and matrix.png.", show_default=False),
    ] = None,
    device: arguments.Device = "auto",
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Train, distil and evaluate a recipe over a grid of settings.

    Started again with the same name it goes on where it was: what is finished stays.
    """
    from di4c_cli import axes as sides
    from di4c_cli import matrix as grid
    from di4c_cli import matrix_table

    axes = [sides.axis(text) for text in over or []]
    path = shipped.find_recipe(recipe)
    with console.Progress(f"matrix {path.stem}", quiet=quiet) as progress:
        result = grid.matrix(
            path,
            axes,
            overrides or [],
            name=name,
            figure=figure,
            out=out,
            device=device,
            progress=progress,
            narrate=progress.narrate,
        )
    if json:
        console.print_json(result)
        return
    head, *rows = matrix_table.table(result)
    print(f"{result['recipe']}: {result['figure']}, teacher / student")
    console.print_table(head, rows)
    for file in result["files"]:
        print(file)
