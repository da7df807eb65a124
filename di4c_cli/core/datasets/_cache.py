"""Token rows that are made once and then memory-mapped: full-size data sets never are in memory.

    <runs>/.cache/<name>-<hash of settings and source>/
        header.json        the settings; of each shard rows, sha256, where the next begins; whether complete
        00000.npy ...      tokens (n, D) in the smallest of uint8, uint16 and int32 that holds S states
        00000.label.npy    class labels (n,) int32, where there are any

A shard is written whole or not at all and stands in the header only after that, so a build that was killed
goes on at its first missing shard, and a shard that was removed is made anew alone. The hashes of all shards
are checked when a build ends: that is when writing can have gone wrong, and to read 18 GB at every start
would cost more than it finds. Every opening checks sizes, shapes and types, every batch that tokens are
states.

File names come from shard numbers only; nothing that stands in a file is followed as a path, and no pickle is
read.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from di4c_cli.core.datasets._header import (
    LABEL,
    REMOVE,
    Header,
    Record,
    Spec,
    files,
    labels,
    missing,
    read_header,
    write_header,
    writing,
)
from di4c_cli.core.datasets._mapped import Array, MappedSplit, Shape, shard_path
from di4c_cli.core.progress import remark, report
from di4c_cli.errors import DataError


@dataclass(frozen=True)
class Shard:
    """A piece of a data set, and where the next one begins."""

    rows: Integer[np.ndarray, "n D"]
    """Tokens."""
    label: Integer[np.ndarray, " n"] | None = None
    """Classes."""
    state: Any = None
    """JSON from which the maker of shards goes on behind this one."""
    skipped: list[str] = field(default_factory=list)
    """Items that could not be read."""


Maker = Callable[[Any], Iterator[Shard]]
"""The shards behind a state, None for all of them; equal states give equal shards."""


def cached(spec: Spec, maker: Maker) -> MappedSplit:
    """The rows of a cache, which is built first where it is missing or was left unfinished.

    Raises:
        DataError: a file of the cache is damaged, or the source is not the one it was begun with.
        RunError: the disk did not take it; what is there stays, and is gone on from.
    """
    folder = spec.folder
    header = read_header(folder, spec)
    if not header.complete or missing(folder, spec, header):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            header = _build(folder, spec, maker)
    return MappedSplit(
        folder=folder,
        counts=tuple(record.rows for record in header.shards),
        width=spec.width,
        dtype=spec.dtype,
        num_states=spec.num_states,
        label=labels(folder, spec, header) if spec.num_labels else None,
        stop=sum(record.rows for record in header.shards),
    )


def _build(folder: Path, spec: Spec, maker: Maker) -> Header:
    """Make what is missing, check everything, and say so in the header."""
    header = read_header(folder, spec)  # once more: another process may just have finished it
    lost = missing(folder, spec, header)
    if header.complete and not lost:
        return header
    for stale in folder.glob(".*.tmp"):
        stale.unlink(missing_ok=True)
    for number in lost:
        before = header.shards[number - 1].state if number else None
        shard = next(maker(before), None)
        if shard is None or shard.state != header.shards[number].state:
            raise DataError(f"{folder}: its source has changed since it was begun", REMOVE)
        header.shards[number] = _write_shard(folder, spec, number, shard)
        write_header(folder, header)
    if not header.complete:
        for shard in maker(header.shards[-1].state if header.shards else None):
            header.shards.append(_write_shard(folder, spec, len(header.shards), shard))
            write_header(folder, header)
    _verify(folder, spec, header)
    header.complete = True
    write_header(folder, header)
    skipped = [name for record in header.shards for name in record.skipped]
    if skipped:
        some = f"{', '.join(skipped[:3])}{' ...' if len(skipped) > 3 else ''}"
        remark(f"{spec.name}: {len(skipped)} could not be read and are left out: {some}")
    return header


def _write_shard(folder: Path, spec: Spec, number: int, shard: Shard) -> Record:
    arrays = {"": _packed(shard.rows, spec.dtype, spec.num_states)}
    if spec.num_labels:
        assert shard.label is not None
        arrays[".label"] = _packed(shard.label, LABEL, spec.num_labels)
    hashes = {}
    for suffix, array in arrays.items():
        with writing(folder):
            hashes[suffix] = _write_array(shard_path(folder, number, suffix), array)
    return Record(
        rows=len(shard.rows),
        sha256=hashes[""],
        label_sha256=hashes.get(".label"),
        state=shard.state,
        skipped=shard.skipped,
    )


def _packed(values: Array, dtype: str, limit: int) -> Array:
    """The values as a smaller type, which would hide those out of range."""
    if values.size and not 0 <= values.min() <= values.max() < limit:
        raise ValueError(f"values from {values.min()} to {values.max()}, not all in 0..{limit - 1}")
    return np.ascontiguousarray(values, dtype=dtype)


def _write_array(path: Path, array: Array) -> str:
    """Write a file whole or not at all; its sha256."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest = hashlib.sha256()
    try:
        with open(temporary, "wb") as file:
            for part in (Shape(array.shape, array.dtype.str).header, array.data):
                digest.update(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync(path.parent)  # the shard is on disk before a header that names it
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return digest.hexdigest()


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One builder at a time; the lock ends with its process, however that ends.

    Where a file system has no locks, builders overwrite each other's shards whole, and the check at the end
    tells if these were not the same.
    """
    with writing(folder):
        file = open(folder / ".lock", "w")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remark(f"{folder}: another process is building this cache; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        yield


def _verify(folder: Path, spec: Spec, header: Header) -> None:
    """Read every shard and compare its hash with the header's.

    Raises:
        DataError: naming the damaged file.
    """
    for number, path, _, sha256 in files(folder, spec, header):
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise DataError(
                    f"{path}: damaged: its hash is not the one in header.json",
                    "remove this file: its shard alone is made anew",
                )
        report(number + 1, len(header.shards), f"{spec.name}: checking the cache")
