"""What a cache of tokens holds, as its header.json says it; read as untrusted."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from di4c_cli.core.datasets._mapped import Shape, check_file, mapped_file, shard_path
from di4c_cli.errors import DataError, RunError
from di4c_cli.files import write_text_atomic
from di4c_cli.runs import runs_root

LABEL = "<i4"
HASH = r"^[0-9a-f]{64}$"
REMOVE = "remove this folder: it is made anew"


@dataclass(frozen=True)
class Spec:
    """What a cache holds. Two caches are the same one exactly where all of this is equal."""

    name: str
    """A plain name for people."""
    key: dict[str, Any]
    """Settings and the identity of the source and the codec, as JSON."""
    width: int
    """D."""
    num_states: int
    """S."""
    num_labels: int = 0
    """Classes; 0 for none."""
    state: Any = int
    """The type of the shards' states, as pydantic takes it."""

    @property
    def dtype(self) -> str:
        """The smallest type that holds the states."""
        return "<u1" if self.num_states <= 2**8 else "<u2" if self.num_states <= 2**16 else "<i4"

    @property
    def full_key(self) -> dict[str, Any]:
        sizes = {"width": self.width, "num_states": self.num_states, "num_labels": self.num_labels}
        return {**self.key, **sizes, "dtype": self.dtype}

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256(json.dumps(self.full_key, sort_keys=True).encode()).hexdigest()
        return runs_root().resolve() / ".cache" / f"{self.name}-{digest[:12]}"


class Record(BaseModel):
    """One shard."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rows: int = Field(ge=0)
    sha256: str = Field(pattern=HASH)
    label_sha256: str | None = Field(pattern=HASH)
    state: Any
    """Where the next shard begins."""
    skipped: list[str]


class Header(BaseModel):
    """header.json."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1] = 1
    key: dict[str, Any]
    shards: list[Record] = []
    complete: bool = False


def read_header(folder: Path, spec: Spec) -> Header:
    """The header, or an empty one where nothing was begun.

    Raises:
        DataError: it is damaged, or that of another cache.
    """
    path, states = folder / "header.json", TypeAdapter(spec.state)
    try:
        header = Header.model_validate_json(path.read_bytes())
        for record in header.shards:
            states.validate_python(record.state, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return Header(key=spec.full_key)
    except (OSError, ValidationError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise DataError(f"{path}: damaged: {cause}", REMOVE) from None
    if header.key != json.loads(json.dumps(spec.full_key)):
        raise DataError(f"{path}: made for other settings", REMOVE)
    if any((record.label_sha256 is None) == bool(spec.num_labels) for record in header.shards):
        raise DataError(f"{path}: damaged: labels", REMOVE)
    return header


def write_header(folder: Path, header: Header) -> None:
    with writing(folder):
        write_text_atomic(folder / "header.json", header.model_dump_json() + "\n")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises RunError where the disk does not take it."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{folder}: cannot write the cache of tokens: {error.strerror or error}",
            "make room, or set $DI4C_RUNS to a folder on another disk; what is done is kept",
        ) from error


def files(folder: Path, spec: Spec, header: Header) -> Iterator[tuple[int, Path, Shape, str | None]]:
    """Shard number, path, shape and type, and hash of every file that the header names."""
    for number, record in enumerate(header.shards):
        yield number, shard_path(folder, number), Shape((record.rows, spec.width), spec.dtype), record.sha256
        if spec.num_labels:
            path = shard_path(folder, number, ".label")
            yield number, path, Shape((record.rows,), LABEL), record.label_sha256


def missing(folder: Path, spec: Spec, header: Header) -> list[int]:
    """The numbers of shards that are not there.

    Raises:
        DataError: a file is not what the header says.
    """
    numbers = []
    for number, path, shape, _ in files(folder, spec, header):
        if path.is_symlink() or path.exists():
            check_file(path, shape)
        elif number not in numbers:
            numbers.append(number)
    return numbers


def labels(folder: Path, spec: Spec, header: Header) -> Int[Tensor, " n"]:
    """All labels, which are few enough to be in memory.

    Raises:
        DataError: one is no class.
    """
    parts = [np.zeros(0, dtype=LABEL)]
    for number, record in enumerate(header.shards):
        path = shard_path(folder, number, ".label")
        label = mapped_file(path, Shape((record.rows,), LABEL))
        if label.size and not 0 <= label.min() <= label.max() < spec.num_labels:
            raise DataError(
                f"{path}: damaged: not all labels are below {spec.num_labels}",
                "remove this file: its shard alone is made anew",
            )
        parts.append(label)
    return torch.from_numpy(np.concatenate(parts)).long()
