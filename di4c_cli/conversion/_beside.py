"""Files beside a released one: what its tensors do not tell."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from di4c_cli.conversion import _yaml
from di4c_cli.errors import CheckpointError

LIMIT = 2**20  # bytes of a file of settings


class Told(BaseModel):
    """Settings of a release, as far as they matter here; None where nothing tells."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


T = TypeVar("T", bound=Told)


def told(model: type[T], released: Path, names: tuple[str, ...], hparams: Path | None) -> T:
    """What the files of these names beside `released` tell, and then `hparams` in place of hparams.json.

    Raises:
        CheckpointError: unreadable, or values of another type.
    """
    paths = [released.parent / name for name in names if hparams is None or name != "hparams.json"]
    known: dict[str, Any] = {}
    for path in [path for path in paths if path.is_file()] + ([hparams] if hparams else []):
        try:
            known |= model.model_validate(read_settings(path)).model_dump(exclude_none=True)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise CheckpointError(f"{path}: {key}: {first['msg']}") from None
    return model().model_copy(update=known)


def read_settings(path: Path) -> dict[str, Any]:
    """A file of settings as one flat table: what `model`, `params` and `ddconfig` hold stands at the top.

    Raises:
        CheckpointError: not JSON or YAML, or no table.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError("too long for a file of settings")
        text = path.read_text(encoding="utf-8")
        content = _yaml.parse(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no table of settings")
    for key in ("model", "params", "ddconfig"):
        inner = content.get(key)
        content |= inner if isinstance(inner, dict) else {}
    return content


def agree(path: Path, stated: dict[str, Any], found: dict[str, Any]) -> None:
    """Settings that are stated must be those of the tensors.

    Raises:
        CheckpointError: with the first that is not.
    """
    for key, value in found.items():
        if stated.get(key) is not None and stated[key] != value:
            raise CheckpointError(
                f"{path}: the settings say {key} = {stated[key]}, and the tensors {value}",
                "the file of settings belongs to another checkpoint",
            )
