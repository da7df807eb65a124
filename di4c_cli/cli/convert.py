"""`di4c convert FILE --kind KIND --out DIR`: a released checkpoint into our folder layout."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from di4c_cli.cli import arguments, console
from di4c_cli.files import writing_to

app = typer.Typer(add_completion=False)

Kind = Literal["mdlm", "sdtt", "maskgit", "vqgan", "tauldr", "di4c-tauldr", "di4c-maskgit", "di4c-sdtt"]


@app.command(
    epilog="di4c convert hf:kuleshov-group/mdlm-owt --kind mdlm --out checkpoints/mdlm-owt",
)
def convert(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A released file, a Hugging Face folder, or hf:OWNER/NAME@REVISION.",
            show_default=False,
        ),
    ],
    kind: Annotated[Kind, typer.Option("--kind", help="What was released.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, new.")],
    hparams: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON with what the file does not tell; default: hparams.json beside it, else as released.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        Literal["ema", "raw"] | None,
        typer.Option(help="Averaged or last weights; default: those the authors use.", show_default=False),
    ] = None,
    json: arguments.Json = False,
) -> None:
    """Convert a released checkpoint; any missing, surplus or misshapen tensor is an error."""
    from di4c_cli import conversion

    with writing_to(out):
        result = conversion.convert(file, kind, out, hparams=hparams, weights=weights)
    if json:
        console.print_json(result)
        return
    console.narrate(
        f"{kind}: {result['tensors']} tensors, {result['parameters']:,} parameters, "
        f"{result['weights']} weights"
    )
    for key, value in result["assumed"].items():
        console.narrate(f"assumed {key} = {value}: nothing told it (--hparams can)")
    print(result["out"])
