"""What a conversion makes of a released file: the network that its tensors fit, and the recipe of it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from di4c_cli import recipe_file
from di4c_cli.core.teachers.network import untrained
from di4c_cli.errors import CheckpointError, RecipeError
from di4c_cli.recipe import Recipe
from di4c_cli.shipped import recipe_paths

ANOTHER = "another version of it, or --kind and --hparams do not fit"

Shapes = dict[str, tuple[int, ...]]
"""By released name, without prefixes."""


@dataclass(frozen=True)
class Design:
    """The folder to be written, but for its tensors."""

    header: dict[str, Any]
    """config.json, but for where it came from."""
    wanted: Shapes
    """The tensors of our network, by our names."""
    prefix: str
    """What stands before these names in the folder."""
    what: str
    """In words."""
    assumed: dict[str, Any]
    """What nothing told, and was taken from the released configuration."""


class Tensors:
    """The shapes in a file, to read sizes from."""

    def __init__(self, path: Path, shapes: Shapes) -> None:
        self.path = path
        self.shapes = shapes

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """Raises CheckpointError where the tensor is missing, or has another number of dimensions."""
        if name not in self.shapes:
            raise CheckpointError(f"{self.path}: missing: {name}", ANOTHER)
        shape = self.shapes[name]
        if len(shape) != dims or 0 in shape:
            raise CheckpointError(f"{self.path}: of another shape: {name} {shape}", ANOTHER)
        return shape

    def numbers(self, prefix: str) -> list[int]:
        """The different numbers behind `prefix.`, in order."""
        pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
        return sorted({int(match[1]) for name in self.shapes if (match := pattern.match(name))})

    def wrong(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {what}", ANOTHER)


def of_model(
    tensors: Tensors,
    base: str,
    *,
    student: bool,
    codec: Mapping[str, Any],
    network: Mapping[str, Any],
    assumed: dict[str, Any],
    process: Mapping[str, Any] | None = None,
    top: Mapping[str, Any] | None = None,
) -> Design:
    """A model of the shipped recipe `base`, changed as the file tells.

    Raises:
        CheckpointError: these sizes make no network.
    """
    config = recipe_file.resolved(recipe_file.load(recipe_paths()[base]))["config"] | dict(top or {})
    same = config["codec"]["kind"] == codec["kind"]
    config["codec"] = {**config["codec"], **codec} if same else dict(codec)
    config["network"] |= network
    config["process"] |= process or {}
    try:
        loaded = recipe_file.load_resolved({"config": config, "recipe": base}, path=Path("config.json"))
        wanted = _network_of(loaded.recipe, student=student)
    except (RecipeError, ValueError) as error:
        reason = getattr(error, "message", str(error)).splitlines()[0]
        raise tensors.wrong(f"its sizes make no network of ours: {reason}") from None
    role = "student" if student else "teacher"
    header = {
        "name": base,
        "role": role,
        "teacher": None,
        "recipe": recipe_file.resolved(loaded)["config"],
    }
    return Design(header, wanted, "network.", f"{role} for the recipe {base}", assumed)


def _network_of(recipe: Recipe, *, student: bool) -> Shapes:
    """Names and shapes in the network of a recipe; no memory is taken for it."""
    space = replace(recipe.codec.build().space, num_classes=recipe.classes)
    process = recipe.process.build(space)
    with torch.device("meta"):
        model = (
            recipe.student.build(recipe.network, process) if student else untrained(recipe.network, process)
        )
    return {name: tuple(p.shape) for name, p in model.network.state_dict().items()}


def whole(tensors: Tensors, value: int, unit: int, what: str) -> int:
    """value / unit.

    Raises:
        CheckpointError: it is no whole number.
    """
    if value % unit:
        raise tensors.wrong(f"{what}: {value} is not a multiple of {unit}")
    return value // unit


def first_known(assumed: dict[str, Any], key: str, stated: Any, released: Any) -> Any:
    """What is stated, else the released value, noted in `assumed`."""
    if stated is not None:
        return stated
    assumed[key] = released
    return released


def refuse(tensors: Tensors, settings: Mapping[str, Any], impossible: Collection[tuple[str, Any]]) -> None:
    """Settings that our network does not have.

    Raises:
        CheckpointError: the first that is there.
    """
    for key, value in impossible:
        if settings.get(key) == value:
            raise CheckpointError(
                f"{tensors.path}: the settings say {key} = {value}, which this network has not", ANOTHER
            )
