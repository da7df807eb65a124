"""The cells of a matrix before any is made: their recipes, and the runs that they need or already have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from di4c_cli import drift, recipe_file
from di4c_cli.axes import NOT_OF_THE_TEACHER, Axis, Setting, combinations
from di4c_cli.errors import RecipeError, UsageError
from di4c_cli.runs import RunDirectory, runs_root

NO_MATTER = re.compile(
    r"title|(teacher\.)?train\.(log_every|save_every|keep|warn_after)|(preview|sample)\..*"
)
"""What may change between two starts: cadences, and what is drawn beside."""


@dataclass(frozen=True)
class Cell:
    """One combination of settings; its recipe, or why there is none."""

    settings: tuple[Setting, ...]
    loaded: recipe_file.LoadedRecipe | RecipeError
    teacher: str | None
    """The name of its teacher's run; None for a teacher that is not trained here."""
    student: str
    """The name of its student's run."""

    @property
    def told(self) -> dict[str, Any]:
        """How matrix.json tells of it."""
        overrides = [override for setting in self.settings for override in setting.overrides]
        return {"settings": [setting.label for setting in self.settings], "overrides": overrides}


def planned(path: Path, axes: Sequence[Axis], overrides: Sequence[str], name: str) -> list[Cell]:
    """All cells of a grid, and the runs that they are made of."""
    cells = []
    for settings in combinations(axes):
        given = [*overrides, *(override for setting in settings for override in setting.overrides)]
        own = [setting for axis, setting in zip(axes, settings, strict=True) if axis.of_the_teacher]
        loaded: recipe_file.LoadedRecipe | RecipeError
        trained = False
        try:
            loaded = recipe_file.load(path, given)
        except RecipeError as error:
            loaded = error
        else:
            given_one = loaded.recipe.teacher.mixture or getattr(loaded.recipe.teacher, "checkpoint", None)
            trained = loaded.recipe.teacher.trained and not given_one
        teacher = "-".join([_named(name, own), "teacher"]) if trained else None
        cells.append(Cell(settings, loaded, teacher, _named(name, settings)))
    return cells


def refuse_mistakes(cells: Sequence[Cell]) -> None:
    """A setting of which no cell has a recipe is mistyped; it is found before hours went into the others.

    Others fit with some settings and not with others: those cells are listed with the reason.

    Raises:
        RecipeError: of such a setting.
    """
    fits = {
        setting for cell in cells if not isinstance(cell.loaded, RecipeError) for setting in cell.settings
    }
    for cell in cells:
        if isinstance(cell.loaded, RecipeError) and not fits.issuperset(cell.settings):
            raise cell.loaded


def _named(name: str, settings: Sequence[Setting]) -> str:
    return "-".join([name, *(setting.slug for setting in settings if setting.overrides)])


def refuse_changes(cell: Cell) -> None:
    """What is there already of a cell must have been made with the same values.

    Raises:
        UsageError: one was another.
    """
    if isinstance(cell.loaded, RecipeError):
        return
    now = recipe_file.resolved(cell.loaded)["values"]
    for name, without in ((cell.teacher, NOT_OF_THE_TEACHER), (cell.student, ())):
        run = RunDirectory(runs_root() / cell.loaded.name / str(name))
        if name is None or not RunDirectory.is_run(run.path):
            continue
        found = [
            difference
            for difference in drift.changes(run.resolved().get("values", {}), now)
            if not NO_MATTER.fullmatch(difference[0]) and difference[0].partition(".")[0] not in without
        ]
        if found:
            more = f", and {len(found) - 1} more" * (len(found) > 1)
            raise UsageError(f"{run.path}: {drift.told(found[0])}{more}", "choose another --name")
