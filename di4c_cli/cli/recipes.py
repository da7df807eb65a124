"""`di4c recipes`: browse, resolve, validate and copy recipes."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from di4c_cli import shipped
from di4c_cli.cli import arguments, console
from di4c_cli.errors import Di4CError, RecipeError, UsageError

app = typer.Typer(add_completion=False, invoke_without_command=True)


@app.callback()
def recipes(ctx: typer.Context, json: arguments.Json = False) -> None:
    """List the shipped recipes; show, check and copy them."""
    if ctx.invoked_subcommand is not None:
        return
    found = [
        {"name": name, "title": shipped.read_title(path), "path": str(path)}
        for name, path in shipped.recipe_paths().items()
    ]
    if json:
        console.print_json(found)
    else:
        console.print_table(["recipe", "title"], [[recipe["name"], recipe["title"]] for recipe in found])


@app.command(cls=arguments.RecipeCommand, epilog="di4c recipes show digits train.steps=500 --origin")
def show(
    recipe: arguments.Recipe,
    overrides: arguments.Overrides = None,
    origin: Annotated[bool, typer.Option("--origin", help="Where each value came from.")] = False,
    json: arguments.Json = False,
) -> None:
    """Every value of a recipe, defaults and overrides included, as TOML."""
    from di4c_cli import recipe_file

    loaded = recipe_file.load(shipped.find_recipe(recipe), overrides or [])
    resolved = recipe_file.resolved(loaded)
    if json:
        facts = {key: resolved[key] for key in ("recipe", "title", "values", "config")}
        console.print_json({**facts, "path": loaded.path})
    else:
        print(recipe_file.to_toml(resolved["config"], loaded.origins if origin else None), end="")


@app.command()
def check(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="Files or names of shipped recipes.", show_default=False),
    ],
    json: arguments.Json = False,
) -> None:
    """Validate recipes without running them; everything that is wrong, one line each."""
    from di4c_cli import recipe_file

    report: list[dict[str, Any]] = []
    for recipe in recipes:
        try:
            recipe_file.load(shipped.find_recipe(recipe))
        except RecipeError as error:
            report.append({"recipe": recipe, "ok": False, "errors": str(error).splitlines()})
        else:
            report.append({"recipe": recipe, "ok": True, "errors": []})
    if json:
        console.print_json(report)
    for entry in report:
        for line in entry["errors"]:
            console.error(Di4CError(line))
        if entry["ok"] and not json:
            print(f"{entry['recipe']}: ok")
    if not all(entry["ok"] for entry in report):
        raise typer.Exit(RecipeError.exit_code)


@app.command(epilog="di4c recipes cp digits mine.toml")
def cp(
    name: arguments.Recipe,
    dest: Annotated[
        Path, typer.Argument(metavar="DEST", help="A new file, or a folder.", show_default=False)
    ],
    json: arguments.Json = False,
) -> None:
    """Copy a recipe to edit it; an existing file is never overwritten."""
    source = shipped.find_recipe(name)
    target = dest / source.name if dest.is_dir() else dest
    if not target.suffix:
        target = target.with_suffix(".toml")
    try:
        with open(source, "rb") as original, open(target, "xb") as copy:
            shutil.copyfileobj(original, copy)
    except FileExistsError:
        raise UsageError(f"{target}: exists already", "choose another name") from None
    except OSError as error:
        raise UsageError(f"{target}: {error.strerror}") from None
    if json:
        console.print_json({"recipe": source.stem, "file": target})
    else:
        print(target)


@app.command()
def schema(json: arguments.Json = False) -> None:
    """The JSON schema of recipe files, for editors (always JSON, with or without --json)."""
    from di4c_cli import recipe_file
    from di4c_cli.core.progress import reporting

    with reporting(remark=console.narrate):
        found = recipe_file.json_schema()
    console.print_json(found)
