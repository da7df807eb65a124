"""A small recipe schema of its own kinds, so that these tests do not follow every change of a component."""

import sys
import textwrap
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field
from typer.testing import CliRunner

from di4c_cli import recipe_file
from di4c_cli.core.component import Config, section

KINDS = {
    "alpha": """
        from typing import Literal
        from pydantic import Field
        from di4c_cli.core.component import Config as _Config

        class Config(_Config):
            rate: float = Field(1.0, gt=0)
            schedule: Literal["linear", "arccos"] = "linear"
    """,
    "beta": """
        from di4c_cli.core.component import Config as _Config, section

        class Config(_Config):
            width: int
            inner: section("fakes") | None = None
    """,
}


class Rate(Config):
    peak: float = Field(0.5, gt=0)
    shape: Literal["cosine", "constant"] = "cosine"


def number_is_peak(value: Any) -> Any:
    return {"peak": value} if isinstance(value, int | float) else value


class Train(Config):
    steps: int = Field(100, ge=1)
    lr: Annotated[Rate, BeforeValidator(number_is_peak)] = Rate()
    clip: float | None = Field(1.0, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    ema: bool = True


GOOD = """\
title = "A recipe"
steps = [1, 2]

[process]            # line 4
kind = "alpha"
rate = 2.0

[[losses]]
kind = "alpha"

[[losses]]           # line 11
kind = "beta"
width = 3

[train]
steps = 50
lr = 0.1
"""


@pytest.fixture
def schema(tmp_path, monkeypatch):
    """`recipe_file` with a recipe whose sections are of kind alpha or beta."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for kind, source in KINDS.items():
        (folder / f"{kind}.py").write_text(textwrap.dedent(source))
    package = ModuleType("di4c_cli.core.fakes")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    any_fake = section("fakes")

    class Recipe(Config):
        title: str = ""
        process: any_fake
        network: any_fake | None = None
        losses: list[any_fake] = Field(min_length=1)
        train: Train = Train()
        steps: list[int] = Field([1, 2, 4])
        step: float | tuple[float, float] = 0.5

    monkeypatch.setattr(recipe_file, "Recipe", Recipe)
    yield Recipe
    for name in [name for name in sys.modules if name.startswith(f"{package.__name__}.")]:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a recipe file into the working directory, and give its path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def good(schema, write):
    return write(GOOD)


@pytest.fixture
def run():
    """Run a command line in this process."""
    from di4c_cli.cli.app import app

    def run(*arguments: object, **options: Any):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="di4c", **options)

    return run
