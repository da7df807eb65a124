"""What comes with the program: recipes, a small teacher and a codebook (standard library only)."""

import difflib
import tomllib
from pathlib import Path

from di4c_cli.errors import RecipeError

_PACKAGE = Path(__file__).parent


def _shipped_root() -> Path:
    """The clone's top level, or the copy that a wheel carries inside the package."""
    inside = _PACKAGE / "_shipped"
    return inside if inside.is_dir() else _PACKAGE.parent


def recipe_paths() -> dict[str, Path]:
    """The shipped recipes by bare name, sorted."""
    folder = _shipped_root() / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(text: str) -> Path:
    """The file behind a RECIPE argument: a path to a TOML file, or a shipped recipe's bare name.

    Raises:
        RecipeError: neither a file nor a known name.
    """
    path = Path(text)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise RecipeError(f"{text}: no such file", "`di4c recipes` lists the shipped recipes")
        return path
    known = recipe_paths()
    if text in known:
        return known[text]
    near = difflib.get_close_matches(text, known, n=1)
    hint = (
        f"Did you mean '{near[0]}'?"
        if near
        else f"shipped: {', '.join(known)}; or give a path to a .toml file"
    )
    raise RecipeError(f"{text}: no such recipe", hint)


def shipped_teacher(recipe: str) -> Path | None:
    """The checkpoint folder of a shipped teacher for a recipe name, if there is one."""
    return shipped_checkpoint(f"{recipe}/teacher")


def shipped_checkpoint(name: str) -> Path | None:
    """The shipped checkpoint folder of a relative name, such as mnist_tokens/codec, if there is one."""
    path = _shipped_root() / "checkpoints" / name
    return path if (path / "config.json").is_file() else None


def read_title(path: Path) -> str:
    """The `title` of a recipe file for lists, or "" where it cannot be read (checking is `Recipe`'s work)."""
    try:
        title = tomllib.loads(path.read_text(encoding="utf-8")).get("title", "")
    except (OSError, ValueError):
        return ""
    return title if isinstance(title, str) else ""
