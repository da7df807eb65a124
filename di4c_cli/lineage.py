"""Which teacher a student has: known by its weights, wherever they lie; and whether it fits a recipe."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from di4c_cli.core import checkpoints
from di4c_cli.errors import CheckpointError, UsageError
from di4c_cli.runs import RunDirectory, runs_root

SHOWN = 12
"""Digits of a hash that tell it from others."""


def weights_hash(folder: Path | None) -> str | None:
    """The sha256 that a checkpoint states for the weights which a teacher has of it; None: it states none."""
    try:
        files = checkpoints.read_config(folder).get("files") if folder else None
    except CheckpointError:
        return None
    if not isinstance(files, dict):
        return None
    digest = files.get("ema.safetensors", files.get("model.safetensors"))
    return digest if isinstance(digest, str) else None


@dataclass(frozen=True)
class Stated:
    """The teacher that a run or a checkpoint says it has."""

    folder: Path
    sha256: str | None
    """`weights_hash` of it then; None in what was written before that was kept."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Stated | None":
        """From resolved.json or config.json; None where there is no checkpoint of a teacher."""
        folder, digest = content.get("teacher"), content.get("teacher_sha256")
        if not isinstance(folder, str) or not folder:
            return None
        return cls(Path(folder), digest if isinstance(digest, str) else None)

    @property
    def in_place(self) -> bool:
        """Whether a checkpoint is where it was, of whatever weights."""
        return (self.folder / "config.json").is_file()

    def found(self, others: Iterable[Path | None] = ()) -> Path | None:
        """Where its weights are: at its place, in that run below the root of runs, or in one of the others.

        What cannot be read at its place is taken for it: what is wrong with it is told where it is loaded.
        """
        if self.in_place and (self.sha256 is None or weights_hash(self.folder) in (None, self.sha256)):
            return self.folder
        if self.sha256 is None:
            return None
        moved = runs_root().joinpath(*self.folder.parts[-3:])
        return next((place for place in (moved, *others) if weights_hash(place) == self.sha256), None)


def kept(folder: Path | None) -> dict[str, str | None]:
    """What a run and its checkpoints keep of their teacher; `Stated.of` reads it."""
    return {"teacher": str(folder.resolve()) if folder else None, "teacher_sha256": weights_hash(folder)}


def to_resume(run: RunDirectory, *, allow_drift: bool = False) -> str | None:
    """The teacher that a run goes on with; None where it has no checkpoint.

    Raises:
        CheckpointError: it is gone.
        UsageError: it is another now, and that is not allowed.
    """
    stated = Stated.of(run.resolved())
    if stated is None:
        return None
    if (found := stated.found()) is not None:
        return str(found)
    if not stated.in_place:
        hint = "with the same weights" if stated.sha256 else "with --allow-drift, as its hash was not kept"
        raise CheckpointError(
            f"{run.path}: its teacher {stated.folder} is gone", f"say where it is now: --teacher PATH, {hint}"
        )
    if allow_drift:
        return str(stated.folder)
    was, now = (str(digest)[:SHOWN] for digest in (stated.sha256, weights_hash(stated.folder)))
    raise UsageError(
        f"{run.path}: its teacher {stated.folder} has changed: sha256 was {was}, is now {now}",
        "name a copy of the one before with --teacher, or add --allow-drift to go on with this one",
    )


def contradictions(
    folder: Path, config: Mapping[str, Any], *, schedule_matters: bool
) -> Iterator[tuple[str, Any, Any]]:
    """Keys in which the recipe of a teacher is about something else than `config`, with its value and ours.

    What only the one or the other has is a default of another version. Where files lie may differ, as long as
    they are the same; so may the length of texts: networks with weights for each position show it by their
    shapes, others take any, and a released one does not tell it.
    """
    theirs = checkpoints.read_config(folder)["recipe"]
    for section in ("codec", "process"):
        before, now = _section(theirs, section), config[section]
        for key in before:
            if key not in now or key in ("path", "length"):
                continue
            differ = _other_weights if key == "checkpoint" else _unequal
            if differ(before[key], now[key]) and (key != "schedule" or schedule_matters):
                yield f"{section}.{key}", before[key], now[key]
    before, now = (_section(part, "network").get("parameterization") for part in (theirs, config))
    if None not in (before, now) and before != now and {before, now} != {"free", "raw"}:  # raw: free's defect
        yield "network.parameterization", before, now


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a recipe that nobody has checked."""
    found = recipe.get(name)
    return found if isinstance(found, dict) else {}


def _unequal(before: Any, now: Any) -> bool:
    return bool(before != now)


def _other_weights(before: Any, now: Any) -> bool:
    """Whether both are names of checkpoints that are here, and not the same."""
    folders = [checkpoints.find(name) if isinstance(name, str) else None for name in (before, now)]
    hashes = [weights_hash(folder) for folder in folders]
    return None not in hashes and hashes[0] != hashes[1]


def shown(value: Any) -> str:
    """A value of a recipe in a message."""
    return json.dumps(value, ensure_ascii=False)
