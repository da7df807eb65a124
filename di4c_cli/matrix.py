"""One recipe over a grid of settings: each cell trained, distilled and evaluated, side by side in the end.

Runs are named by what they are made of, so that a matrix that is started again goes on where it was, cells
share their teachers, and a changed setting makes a run of its own.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from di4c_cli import pipeline, recipe_file
from di4c_cli.errors import Di4CError, NonFiniteLossError, RecipeError, UsageError
from di4c_cli.files import write_text_atomic, writing_to
from di4c_cli.grid import write_grid
from di4c_cli.matrix_table import document, main_figure
from di4c_cli.runs import RunDirectory, runs_root

NOT_OF_THE_TEACHER = ("title", "student", "losses", "times", "train", "hand_over", "teacher_sampler")
NOT_OF_THE_TEACHER += ("sampler", "guidance", "sample", "preview", "eval", "metrics")
"""Sections of a recipe that its teacher does not depend on."""


@dataclass(frozen=True)
class Setting:
    """One value of an axis: overrides that go together, and what they are called."""

    label: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """What varies along one side of a matrix."""

    name: str
    """The key that it begins with."""
    settings: tuple[Setting, ...]


def axis(text: str) -> Axis:
    """`KEY=A;B;C`, or overrides that go together: `KEY=A OTHER=1; KEY=B OTHER=2`; `NAME: ...` names one.

    Raises:
        UsageError: none of that.
    """
    settings, key = list[Setting](), ""
    for part in text.split(";"):
        label, colon, rest = part.partition(": ")
        named = bool(colon) and "=" not in label
        overrides = (rest if named else part).split()
        if key and overrides and "=" not in overrides[0]:
            overrides[0] = f"{key}={overrides[0]}"
        for override in overrides:
            recipe_file.parse_override(override)
        if not overrides:
            raise UsageError(f"--over {text}: an empty value", "as in --over 'network.width=64;128'")
        key = overrides[0].partition("=")[0]
        settings.append(Setting(label.strip() if named else _label(overrides), tuple(overrides)))
    if len({setting.label for setting in settings}) < len(settings):
        raise UsageError(f"--over {text}: two values of one name", "name them: 'NAME: KEY=VALUE; ...'")
    return Axis(settings[0].overrides[0].partition("=")[0], tuple(settings))


def _label(overrides: Sequence[str]) -> str:
    values = [override.partition("=")[2] for override in overrides]
    return " ".join(value.strip("\"'") for value in values if value != "null")


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
    narrate: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Make every cell of the grid, and matrix.json, matrix.md and matrix.png of all of them.

    A cell whose pieces do not fit together, or that diverges, is listed with the reason.

    Args:
        figure: what the table and the picture show; None: the first of `figures.LABELS` that there is.

    Raises:
        Di4CError: no cell can be made (the error of the first), or something else than the cell is wrong.
    """
    combinations = list(itertools.product(*(part.settings for part in axes)))
    cells, errors = list[dict[str, Any]](), list[Di4CError]()
    for done, settings in enumerate(combinations):
        cell: dict[str, Any] = {"settings": [s.label for s in settings]}
        narrate(f"cell {done + 1} of {len(combinations)}: {', '.join(cell['settings'])}")
        given = [*overrides, *(override for s in settings for override in s.overrides)]
        slug = "-".join([name, *(re.sub(r"[^A-Za-z0-9.]+", "_", s.label).strip("_.") for s in settings)])
        cell["overrides"] = given
        try:
            cell |= made(recipe_file.load(path, given), slug, name, device, narrate)
        except (RecipeError, NonFiniteLossError) as error:
            errors.append(error)
            cell["reason"] = " ".join(str(error).split())
        cells.append(cell)
        progress(done + 1, len(combinations), {})
    if len(errors) == len(cells):
        raise errors[0]
    folder = out or runs_root() / path.stem / f"{name}.matrix"
    result = {"recipe": path.stem, "axes": [part.name for part in axes], "cells": cells}
    result["figure"] = main_figure(result, figure)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / "matrix.json", folder / "matrix.md", folder / "matrix.png"]
        write_text_atomic(files[0], json.dumps(result, indent=1) + "\n")
        write_text_atomic(files[1], document(result))
        write_grid(result, files[2])
    return result | {"files": [str(file) for file in files]}


def made(
    loaded: recipe_file.LoadedRecipe, slug: str, name: str, device: str, narrate: Callable[[str], None]
) -> dict[str, Any]:
    """Teacher, student and evaluation of one cell, as far as they are not there already."""
    config = recipe_file.resolved(loaded)["config"]
    teacher = None
    if loaded.recipe.teacher.trained and getattr(loaded.recipe.teacher, "checkpoint", None) is None:
        digest = _digest({key: part for key, part in config.items() if key not in NOT_OF_THE_TEACHER})
        teacher = trained(loaded, "teacher", f"{name}-teacher-{digest}", None, device, narrate)
    source = str(teacher.path) if teacher else None
    student = trained(loaded, "student", f"{slug}-{_digest([config, source])}", source, device, narrate)
    results = student.path / "eval" / "results.json"
    if not results.is_file():
        pipeline.evaluate(str(student.path), device=device)
    evaluation = json.loads(results.read_text(encoding="utf-8"))
    return {
        "teacher": source,
        "student": str(student.path),
        "seconds": {run.status().role: run.status().elapsed for run in (teacher, student) if run},
        "directions": evaluation["directions"],
        "reference": evaluation["reference"],
        "rows": evaluation["rows"],
    }


def trained(
    loaded: recipe_file.LoadedRecipe,
    role: str,
    name: str,
    teacher: str | None,
    device: str,
    narrate: Callable[[str], None],
) -> RunDirectory:
    """The run of that name, trained to its end."""
    run = RunDirectory(runs_root() / loaded.name / name)
    begun = RunDirectory.is_run(run.path)
    if not (begun and run.status().state == "finished"):
        pipeline.train(
            loaded,
            role=role,
            device=device,
            name=None if begun else name,
            resume=run if begun else None,
            teacher=None if begun else teacher,
            narrate=narrate,
        )
    return run


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
