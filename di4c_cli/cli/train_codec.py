"""`di4c train-codec RECIPE --out DIR`: fit the codec of a recipe, where it is one that learns."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from di4c_cli import __version__, shipped
from di4c_cli.cli import arguments, console
from di4c_cli.errors import RecipeError, UsageError
from di4c_cli.files import refuse_existing, writing_to

if TYPE_CHECKING:
    from di4c_cli.core.codecs import Fit
    from di4c_cli.recipe_file import LoadedRecipe

app = typer.Typer(add_completion=False)


@app.command(cls=arguments.RecipeCommand, epilog="di4c train-codec mnist_tokens --out my-codec")
def train_codec(
    recipe: arguments.Recipe,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The codec's folder, new.")],
    overrides: arguments.Overrides = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the start.")] = 0,
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Fit the recipe's codec to the training images of its data set."""
    from di4c_cli import recipe_file
    from di4c_cli.core import checkpoints

    with writing_to(out):
        refuse_existing(out)
    loaded = recipe_file.load(shipped.find_recipe(recipe), overrides or [])
    with console.Progress(f"train-codec {loaded.name}", quiet=quiet):
        fit, num = fitted(loaded, seed)
    kind, dataset = loaded.recipe.codec.kind, loaded.recipe.dataset.kind
    source = {"recipe": loaded.name, "dataset": dataset, "images": num, "seed": seed, **fit.facts}
    header = {"di4c": __version__, "role": "codec", "kind": kind, "architecture": fit.architecture}
    with writing_to(out):
        checkpoints.save(
            out.resolve(),
            config={**header, "source": source},
            model=fit.tensors,
            ema=None,
            card=card(loaded.name, kind, dataset, fit),
        )
    result: dict[str, Any] = {"out": out, "kind": kind, "images": num, **fit.architecture, **fit.facts}
    if json:
        console.print_json(result)
    else:
        console.print_facts(result)


def fitted(loaded: "LoadedRecipe", seed: int) -> tuple["Fit", int]:
    """The codec fitted to the training images, and their number.

    Raises:
        UsageError: a codec that learns nothing, or data without images.
        RecipeError: it cannot be fitted to these images.
    """
    import torch

    from di4c_cli.core.codecs import LearnedConfig
    from di4c_cli.core.datasets import ImageConfig

    codec, dataset = loaded.recipe.codec, loaded.recipe.dataset
    if not isinstance(codec, LearnedConfig):
        raise UsageError(f"{loaded.name}: its codec is {codec.kind}, there is nothing to fit")
    if not isinstance(dataset, ImageConfig):
        raise UsageError(f"{loaded.name}: its data set {dataset.kind} gives no images to fit a codec to")
    if loaded.recipe.threads is not None:
        torch.set_num_threads(loaded.recipe.threads)
    images = dataset.images(codec.image_shape)
    try:
        return codec.fit(images, seed), len(images)
    except ValueError as error:
        raise RecipeError(f"{loaded.path}: codec: {error}") from error


def card(name: str, kind: str, dataset: str, fit: "Fit") -> str:
    """The README.md of a codec folder."""
    sizes = ", ".join(f"{key} {value}" for key, value in fit.architecture.items())
    return f"""---
library_name: di4c
license: mit
tags: [discrete-diffusion, codec]
datasets: [{dataset}]
---
# {name}: codec

A codec of kind {kind} ({sizes}), fitted to the training images of {dataset} with di4c {__version__}:

    di4c train-codec {name} --out DIR

`model.safetensors` is what it learned; `config.json` holds its sizes and the sha256 of that file.
"""
