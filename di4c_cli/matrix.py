"""One recipe over a grid of settings: each cell trained, distilled and evaluated, side by side in the end.

Runs are named after their settings, so that a matrix that is started again goes on where it was; cells that
differ in nothing that a teacher depends on share one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from di4c_cli import pipeline, recipe_file
from di4c_cli.axes import Axis
from di4c_cli.cells import Cell, planned, refuse_changes, refuse_mistakes
from di4c_cli.errors import Di4CError, Interrupted, NonFiniteLossError, RecipeError, UsageError
from di4c_cli.files import write_text_atomic, writing_to
from di4c_cli.grid import write_grid
from di4c_cli.matrix_table import MODELS, document
from di4c_cli.runs import RunDirectory, runs_root
from di4c_cli.session import ended_by_signals

KEPT = "matrix.json"
"""What a student's run keeps of its evaluation: `di4c eval` may write another one later."""
Narrate = Callable[[str], None]


def matrix(
    path: Path,
    axes: Sequence[Axis],
    overrides: Sequence[str],
    *,
    name: str = "matrix",
    figure: str | None = None,
    out: Path | None = None,
    device: str = "auto",
    progress: Callable[[int, int, dict[str, Any]], None] = lambda done, total, row: None,
    narrate: Narrate = lambda line: None,
) -> dict[str, Any]:
    """Make every cell of the grid, and matrix.json, matrix.md and matrix.png of all of them.

    A cell whose pieces do not fit together, or that diverges, is listed with the reason.

    Args:
        figure: what the table and the picture show; None: the first figure of the first metric.

    Raises:
        RecipeError: a setting that no recipe can have.
        Di4CError: no cell can be made (the error of the first), or something else than the cell is wrong.
        Interrupted: a signal came; everything is kept.
    """
    if not axes:
        raise UsageError("di4c matrix: over what?", "as in --over network.width=64,128")
    cells = planned(path, axes, overrides, name)
    refuse_mistakes(cells)
    recipes = [cell.loaded for cell in cells if isinstance(cell.loaded, recipe_file.LoadedRecipe)]
    folder = out or runs_root() / path.stem / name
    if RunDirectory.is_run(folder):
        raise UsageError(f"{folder}: is a run", "choose another --name")
    result: dict[str, Any] = {"recipe": path.stem, "axes": [axis.name for axis in axes]}
    result |= {"figure": shown_figure(recipes[0], figure), "cells": []}
    for cell in cells:
        refuse_changes(cell)
    maker, errors = Maker(name, device, narrate), list[Di4CError]()
    with ended_by_signals():
        for done, cell in enumerate(cells):
            told = cell.told
            narrate(f"cell {done + 1} of {len(cells)}: {', '.join(told['settings'])}")
            try:
                told |= maker.made(cell)
            except Interrupted as error:
                hint = "the same command goes on from there"
                raise Interrupted(error.message, hint, exit_code=error.exit_code) from None
            except (RecipeError, NonFiniteLossError) as error:
                errors.append(error)
                told["reason"] = " ".join(str(error).split())
                narrate(told["reason"])
            result["cells"].append(told)
            if len(errors) < len(result["cells"]):
                write_matrix(result, folder)
            progress(done + 1, len(cells), {})
        if len(errors) == len(cells):
            raise errors[0]
        with writing_to(folder):
            write_grid(result, folder / "matrix.png")
    return result | {"files": [str(folder / f"matrix.{end}") for end in ("json", "md", "png")]}


def shown_figure(loaded: recipe_file.LoadedRecipe, wanted: str | None) -> str:
    """The figure of table and picture.

    Raises:
        UsageError: the recipe does not measure it.
    """
    names = [name for section in loaded.recipe.metrics for name in section.build().directions]
    if not names:
        raise UsageError(f"{loaded.path}: has no metrics to compare cells by", "add [[metrics]]")
    if wanted is not None and wanted not in names:
        raise UsageError(f"--figure {wanted}: not in this recipe", f"it gives {', '.join(names)}")
    return wanted or names[0]


def write_matrix(result: dict[str, Any], folder: Path) -> None:
    """What there is so far, as matrix.json and matrix.md."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(folder / "matrix.json", json.dumps(result, indent=1) + "\n")
        write_text_atomic(folder / "matrix.md", document(result))


@dataclass(frozen=True)
class Maker:
    """Makes cells, as far as they are not there already."""

    name: str
    """The matrix's."""
    device: str
    narrate: Narrate
    failed: dict[str, Di4CError] = field(default_factory=dict)
    """Teachers that could not be made, for the other cells that they are of."""

    def made(self, cell: Cell) -> dict[str, Any]:
        """Teacher, student and evaluation of one cell."""
        if isinstance(cell.loaded, RecipeError):
            raise cell.loaded
        teacher = self.teacher(cell.loaded, cell.teacher) if cell.teacher else None
        source = str(teacher.path) if teacher else None
        student = self.trained(cell.loaded, "student", cell.student, source)
        kept = student.path / KEPT
        if not kept.is_file():
            scale = [cell.loaded.recipe.guidance.scale]
            found = pipeline.evaluate(
                str(student.path), models=list(MODELS), guidance=scale, device=self.device
            )
            part = {key: found[key] for key in ("directions", "reference", "rows")}
            with writing_to(kept):
                write_text_atomic(kept, json.dumps(part, indent=1) + "\n")
        return {
            "teacher": source,
            "student": str(student.path),
            "seconds": {run.status().role: run.status().elapsed for run in (teacher, student) if run},
            **json.loads(kept.read_text(encoding="utf-8")),
        }

    def teacher(self, loaded: recipe_file.LoadedRecipe, name: str) -> RunDirectory:
        if name in self.failed:
            raise self.failed[name]
        try:
            return self.trained(loaded, "teacher", name, None)
        except (RecipeError, NonFiniteLossError) as error:
            self.failed[name] = error
            raise

    def trained(
        self, loaded: recipe_file.LoadedRecipe, role: str, name: str, teacher: str | None
    ) -> RunDirectory:
        """The run of that name, at its end."""
        run = RunDirectory(runs_root() / loaded.name / name)
        begun = RunDirectory.is_run(run.path)
        if begun and run.status().state == "finished":
            return run
        pipeline.train(
            loaded,
            role=role,
            device=self.device,
            name=None if begun else name,
            resume=run if begun else None,
            teacher=None if begun else teacher,
            matrix=self.name,
            narrate=self.narrate,
        )
        return run
