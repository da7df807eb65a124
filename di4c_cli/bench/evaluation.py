"""The evaluation whose quality a bench relies on, and the recipe of the models that were evaluated."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from di4c_cli import recipe_file
from di4c_cli.core import checkpoints
from di4c_cli.core.metrics import Direction
from di4c_cli.errors import CheckpointError, UsageError
from di4c_cli.figures import Group, aggregate
from di4c_cli.judging import report_folder
from di4c_cli.shipped import recipe_paths
from di4c_cli.sources import newest_finished, resolve

Finite = Annotated[float, Field(allow_inf_nan=False)]
MOST_STEPS = 100_000


class Row(BaseModel):
    """One row of a results.json, as far as it matters here; older programs tell less of its setting."""

    model_config = ConfigDict(strict=True)

    model: str
    steps: int = Field(ge=1, le=MOST_STEPS)
    nfe: int
    guidance: Finite | None = Field(None, ge=0)
    temperature: Finite = Field(1.0, gt=0)
    final: Literal["sample", "argmax"] = "sample"
    precision: str = ""
    metrics: dict[str, float | None]
    seconds_per_sample: float


class Results(BaseModel):
    """What `di4c eval` writes into results.json, and prints with `--json`."""

    model_config = ConfigDict(strict=True)

    source: str
    directions: dict[str, Direction]
    rows: list[Row] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Raises CheckpointError for a file that is missing, foreign or damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CheckpointError(
                f"{path}: {error.strerror}", "give the results.json of `di4c eval`"
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = "".join(f"{part}: " for part in [".".join(str(key) for key in first["loc"])] if part)
            raise CheckpointError(
                f"{path}: not the results.json of an evaluation: {place}{first['msg']}",
                "`di4c eval` writes one",
            ) from None

    def groups(self) -> list[Group]:
        """Means over seeds; a figure that is not known at all of them is no number."""
        rows = [row.model_dump(exclude_unset=True) for row in self.rows]
        for row in rows:
            row["metrics"] = {
                name: float("nan") if value is None else value for name, value in row["metrics"].items()
            }
        return aggregate(rows)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, and the recipe of its models as their checkpoint keeps it."""

    path: Path
    results: Results
    loaded: recipe_file.LoadedRecipe

    @classmethod
    def find(
        cls,
        loaded: recipe_file.LoadedRecipe,
        overrides: Sequence[str],
        file: Path | None,
        narrate: Callable[[str], None],
    ) -> "Evaluation":
        """That in `file`, by default the one in the recipe's newest finished student run.

        Raises:
            CheckpointError: there is none, or it is foreign or damaged.
            UsageError: it is of another recipe.
        """
        folder = newest_finished(loaded.name, "student") if file is None else None
        path = file or _in_run(loaded, folder)
        results = Results.read(path)
        with suppress(OSError):  # the file may name anything
            folder = folder or checkpoints.find(results.source)
        if folder is None:
            narrate(f"{results.source}: not here, so the recipe is timed as it is given")
            return cls(path, results, loaded)
        source = resolve(str(folder), list(overrides))
        if source.name != loaded.name:
            raise UsageError(f"{path}: evaluates {source.name}, not {loaded.name}", "give that recipe")
        return cls(path, results, replace(loaded, recipe=source.recipe))


def _in_run(loaded: recipe_file.LoadedRecipe, folder: Path | None) -> Path:
    """The results.json of a student."""
    path = report_folder(folder, loaded.name) / "results.json"
    if folder is None or not path.is_file():
        recipe = loaded.name if loaded.name in recipe_paths() else loaded.path
        first = "" if folder else f"di4c distill {recipe}, then "
        raise CheckpointError(
            f"{loaded.name}: no evaluation of a student yet",
            f"{first}di4c eval {recipe}; or --evaluation FILE",
        )
    return path
