"""Recipe files: TOML plus overrides in, a checked `Recipe` with the origin of every value out."""

import importlib.metadata
import json
import platform
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from di4c_cli import __version__
from di4c_cli.core import component
from di4c_cli.errors import CheckpointError, RecipeError
from di4c_cli.recipe import Recipe
from di4c_cli.recipe_file._emit import to_toml
from di4c_cli.recipe_file._lines import Key, dotted, key_lines, without_entry
from di4c_cli.recipe_file._overrides import Override, defects, merge, parse_override, parse_overrides
from di4c_cli.recipe_file._problems import Source, problem_lines
from di4c_cli.recipe_file._schema import json_schema as _json_schema
from di4c_cli.recipe_file._walk import child, contains
from di4c_cli.redaction import redacted
from di4c_cli.runs import RunDirectory, one_line

__all__ = ["parse_override", "to_toml"]


@dataclass(frozen=True)
class LoadedRecipe:
    """A checked recipe, and where it came from."""

    recipe: Recipe
    name: str
    """The file's stem: the folder of its runs."""
    path: Path
    text: str
    """The file, verbatim; overrides are not in it."""
    origins: dict[str, str]
    """For every dotted key `FILE:LINE`, "override" or "default"."""


def load(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read a recipe file and merge `key=value` overrides into it.

    Raises:
        RecipeError: everything that is wrong, one line each.
        UsageError: an override that is none.
    """
    file = _shown_path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(_syntax_error(file, text, str(error))) from None
    except UnicodeDecodeError:
        raise RecipeError(f"{file}: not UTF-8 text", "a recipe is a TOML file") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror}", "`di4c recipes` lists the shipped recipes") from None
    lines = key_lines(text)
    parsed = parse_overrides(overrides)
    recipe, origins = _check(values, [*defects(values, parsed), *parsed], file, lines)
    return LoadedRecipe(recipe, _plain_name(path.stem, path), path, text, origins)


def load_resolved(
    resolved: dict[str, Any], overrides: Sequence[str] = (), *, path: Path, text: str = ""
) -> LoadedRecipe:
    """The recipe that a run or a checkpoint was made with, from what `resolved` returned then.

    `path` is the file it stands in; origins are those of the run, unless overridden.
    """
    parsed = parse_overrides(overrides)
    recipe, origins = _check(_config(resolved, path), parsed, _shown_path(path), {})
    told = {key: entry.get("origin", "default") for key, entry in resolved.get("values", {}).items()}
    for key, origin in origins.items():
        origins[key] = origin if origin == "override" else told.get(key, "default")
    return LoadedRecipe(
        recipe, _plain_name(str(resolved.get("recipe", path.stem)), path), path, text, origins
    )


def load_run(run: RunDirectory, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """The recipe of a run, to continue it or to sample from it."""
    recipe_file = run.path / "recipe.toml"
    text = recipe_file.read_text(encoding="utf-8") if recipe_file.is_file() else ""
    return load_resolved(run.resolved(), overrides, path=run.path / "resolved.json", text=text)


def from_resolved(resolved: dict[str, Any]) -> Recipe:
    """The `Recipe` of a resolved.json, or of the same content in a checkpoint's config.json."""
    return load_resolved(resolved, path=Path("resolved.json")).recipe


def resolved(loaded: LoadedRecipe, role: str = "", command: Sequence[str] = ()) -> dict[str, Any]:
    """The content of resolved.json: every value with its origin, enough to rebuild the recipe; no secrets."""
    config = redacted(_plain(loaded.recipe))
    leaves = {dotted(key): value for key, value in _leaves(config)}
    return {
        "recipe": loaded.name,
        "role": role,
        "title": config.get("title", ""),
        "values": {key: {"value": value, "origin": loaded.origins[key]} for key, value in leaves.items()},
        "config": config,
        "versions": _versions(),
        "command": redacted(list(command)),
    }


def json_schema() -> dict[str, Any]:
    """The JSON schema of recipes, for editors."""
    return _json_schema(Recipe)


def _check(
    values: dict[str, Any], overrides: list[Override], file: str, lines: dict[Key, int]
) -> tuple[Recipe, dict[str, str]]:
    """Merge overrides into plain values, validate, and tell where every value came from."""
    for override in overrides:
        shortened = merge(values, override, Recipe)
        lines = without_entry(lines, override.key) if shortened else lines
    source = Source(Recipe, values, file, lines, overrides)
    try:
        json.dumps(values, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise RecipeError(
            f"{file}: holds half of a character (a lone surrogate)", "write it as UTF-8"
        ) from None
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError("\n".join(problem_lines(error, source))) from None
    return recipe, {dotted(key): _origin(key, value, source) for key, value in _leaves(_plain(recipe))}


def _origin(key: Key, value: Any, source: Source) -> str:
    given: Key = ()
    values: Any = source.values
    for part in key:
        if not isinstance(values, dict | list):  # a plain value that stands for a table: `weight = 2`
            if values != value:
                return "default"
            break
        if not contains(values, (part,)):
            unset = any(o.value is None and key[: len(o.key)] == o.key for o in source.overrides)
            return "override" if unset else "default"
        given, values = (*given, part), child(values, part)
    if source.culprit(given) is not None or any(o.key[: len(given)] == given for o in source.overrides):
        return "override"
    return source.place(given) if given in source.lines else "default"


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON can hold it, without the class's own `kind`."""
    config = component.dump(recipe)
    del config["kind"]
    return json.loads(json.dumps(config, default=str))


def _leaves(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Keys and values down to the last table; lists of tables are gone into, other lists are values."""
    if isinstance(value, dict):
        for part, inner in value.items():
            yield from _leaves(inner, (*key, part))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*key, index))
    else:
        yield key, value


def _plain_name(name: str, path: Path) -> str:
    """The name of a recipe: folders are called after it, so it must be no way elsewhere.

    Raises:
        RecipeError: it is one.
    """
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        shown = one_line(name)[:80]
        raise RecipeError(f"{path}: {shown!r} is no name of a recipe", "runs are called after it: rename it")
    return name


def _config(resolved: dict[str, Any], path: Path) -> dict[str, Any]:
    config = resolved.get("config")
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds no recipe", "it was damaged, or not written by di4c")
    return json.loads(json.dumps(config))  # a copy: overrides are merged in place


def _syntax_error(file: str, text: str, message: str) -> str:
    """tomllib's message with its place in front, as every other message has it."""
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if match:
        return f"{file}:{match[2]}: {match[1]} (column {match[3]})"
    return f"{file}:{len(text.splitlines())}: {message}"


def _shown_path(path: Path) -> str:
    """As short as it goes: relative to where the user is, if it lies below."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _versions() -> dict[str, str]:
    """Read from the packages' metadata: nothing is imported."""
    packages = ("torch", "torchvision", "numpy", "pydantic")
    return {
        "di4c": __version__,
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }
