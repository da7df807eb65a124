"""`di4c train-judge RECIPE`: train the language model that judges a recipe's texts."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from di4c_cli import __version__, shipped
from di4c_cli.cli import arguments, console
from di4c_cli.errors import UsageError
from di4c_cli.files import writing_to
from di4c_cli.runs import runs_root

if TYPE_CHECKING:
    from di4c_cli.core.judges.transformer import Config, Fit
    from di4c_cli.recipe import Recipe
    from di4c_cli.recipe_file import LoadedRecipe

app = typer.Typer(add_completion=False)


@app.command(cls=arguments.RecipeCommand, epilog="di4c train-judge shakespeare --steps 3000")
def train_judge(
    recipe: arguments.Recipe,
    overrides: arguments.Overrides = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps of 2048 tokens.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the start.")] = 0,
    device: arguments.Device = "auto",
    quiet: arguments.Quiet = False,
    json: arguments.Json = False,
) -> None:
    """Train a small transformer on the recipe's training text, to judge samples by.

    Its sizes are those of the recipe's perplexity whose judge is a transformer, or else the usual ones.
    """
    from di4c_cli import recipe_file

    loaded = recipe_file.load(shipped.find_recipe(recipe), overrides or [])
    with console.Progress(f"train-judge {loaded.name}", quiet=quiet):
        result = trained(loaded, steps, seed, device)
    if json:
        console.print_json(result)
    else:
        console.print_facts(result)


def trained(loaded: "LoadedRecipe", steps: int, seed: int, device: str) -> dict[str, Any]:
    """The judge fitted to the recipe's text and kept where its metric looks for it; the facts of it.

    Raises:
        UsageError: the recipe is not of running text.
    """
    from di4c_cli.core.codecs import TextCodec
    from di4c_cli.sources import House, pick_device

    recipe, where = loaded.recipe, pick_device(device)
    house = House.build(recipe, loaded.path)
    codec = house.codec
    if not isinstance(codec, TextCodec):
        raise UsageError(
            f"{loaded.name}: its codec is {recipe.codec.kind}, there is no running text to judge"
        )
    data, config = house.dataset(), judge_of(recipe)
    folder = config.folder(data, codec, runs_root() / ".cache")
    with writing_to(folder):  # before minutes of training
        folder.parent.mkdir(parents=True, exist_ok=True)
    fit = config.fit(data, codec, steps, seed, where)
    facts = {"recipe": loaded.name, "steps": steps, "seed": seed, "held_out": fit.held_out}
    with writing_to(folder):
        config.save(folder.resolve(), fit, {"di4c": __version__, **facts}, card(loaded.name, fit, facts))
    return {"out": folder, "judge": fit.judge.name, **facts}


def judge_of(recipe: "Recipe") -> "Config":
    """The first transformer that judges in a recipe; one of the usual sizes if none does."""
    from di4c_cli.core.judges.transformer import Config

    judges = [getattr(metric, "judge", None) for metric in recipe.metrics]
    return next((judge for judge in judges if isinstance(judge, Config)), Config())


def card(name: str, fit: "Fit", facts: dict[str, Any]) -> str:
    """The README.md of a judge's folder."""
    return f"""---
library_name: di4c
license: mit
tags: [language-model, evaluation]
---
# {name}: judge

A {fit.judge.name}, trained on the training text of {name} with di4c {__version__}:

    di4c train-judge {name} --steps {facts["steps"]} --seed {facts["seed"]}

It gives held-out text {fit.held_out:.4f} nats a token. `di4c eval` measures perplexity by it where a recipe
says `judge.kind = "transformer"`. `config.json` holds its sizes and the sha256 of `model.safetensors`.
"""
