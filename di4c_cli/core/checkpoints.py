"""Checkpoint folders: config.json, model.safetensors, ema.safetensors, README.md; for resume, training state.

A model's config.json holds the whole recipe, that of a codec or a judge (its role) kind and architecture.
Weights that have no average beside them (a converted file, a codec) come without ema.safetensors.
Written whole or not at all (temporary folder, fsync, rename). Read as untrusted: safetensors and JSON only,
every tensor's name and shape checked, files checked against the hashes that config.json states, config.json
against its own. README.md is for people, who may edit it: nothing reads it, and it has no hash.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from di4c_cli import shipped
from di4c_cli.core.checkpoint_header import FORMAT, header_text, read_config
from di4c_cli.errors import CheckpointError
from di4c_cli.files import fsync, remove, write_text_atomic
from di4c_cli.runs import runs_root

__all__ = ["read_config"]

TRAINING = "training.safetensors"
OWN_SIZES = "use the [network] and [codec] it was trained with, or train anew"
SPARE, SPARE_NUMBERS = 100, 10**7
"""What a module may make while it is built beyond a multiple of what its file has: small ones differ more."""

Built = TypeVar("Built", bound=nn.Module)


def save(
    folder: Path,
    *,
    config: dict[str, Any],
    model: dict[str, Tensor],
    ema: dict[str, Tensor] | None,
    card: str,
    training: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint folder atomically; `training` holds what a resume needs beyond the weights.

    Without `ema`, the weights are the only ones.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    temporary, before = folder.with_name(f"{folder.name}.tmp"), folder.with_name(f".{folder.name}.old")
    given = {"model.safetensors": model, "ema.safetensors": ema, TRAINING: training}
    tensors = {name: content for name, content in given.items() if content is not None}
    try:
        remove(temporary)
        temporary.mkdir(parents=True)
        require_room(temporary, sum(p.nbytes for content in tensors.values() for p in content.values()))
        for name, content in tensors.items():
            packed = {key: value.detach().cpu().contiguous() for key, value in content.items()}
            save_file(packed, temporary / name, metadata={"format": "pt"})
        hashes = {name: _sha256(temporary / name) for name in tensors}
        header = header_text({"format": FORMAT, **config, "files": hashes})
        (temporary / "config.json").write_text(header, encoding="utf-8")
        (temporary / "README.md").write_text(card, encoding="utf-8")
        for path in temporary.iterdir():
            shutil.copymode(temporary / "config.json", path)  # safetensors hides its files from other users
            fsync(path)
        fsync(temporary)
        if folder.exists():  # moved aside, not removed: whatever happens next, one whole folder is there
            shutil.copymode(folder, temporary)
            remove(before)
            os.replace(folder, before)
        os.replace(temporary, folder)
        fsync(folder.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            remove(temporary)
        if before.exists() and not folder.exists():
            os.replace(before, folder)
        if isinstance(error, SafetensorError):  # safetensors reports a full disk as its own error
            raise OSError(str(error)) from error
        raise
    with suppress(OSError):  # the new folder is in its place: what is left of the old one harms nobody
        remove(before)


def restate(folder: Path, config: dict[str, Any]) -> None:
    """Replace config.json of a checkpoint, whole or not at all; the weights stay, and so do their hashes.

    Raises:
        OSError: the disk is full or not writable; what was there stays.
    """
    text = header_text(config, strict=False)  # what it told before this change, it may go on telling
    write_text_atomic(folder / "config.json", text)


def require_room(place: Path, nbytes: int) -> None:
    """Raises OSError (no space left) where the disk of `place` has less than `nbytes`."""
    if shutil.disk_usage(place).free < nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))


def find(text: str) -> Path | None:
    """The checkpoint folder of that path: as it stands, below the runs, or shipped with the program."""
    candidates = [Path(text), runs_root() / text]
    found = [path for path in candidates if (path / "config.json").is_file()]
    return found[0] if found else shipped.shipped_checkpoint(text)


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """One safetensors file of a checkpoint folder, checked against the hash in config.json.

    Raises:
        CheckpointError: missing, truncated or altered.
    """
    path = folder / name
    stated = _stated_hashes(folder).get(name)
    if not path.is_file():
        raise CheckpointError(f"{path}: missing", "the checkpoint is incomplete")
    try:
        if stated != _sha256(path):
            raise CheckpointError(
                f"{path}: damaged (its hash is not the one in config.json)",
                "use another checkpoint of the run",
            )
        # read, not mapped: mapped tensors die with a file that is cut short, and leave a trace each
        return load_file(path, backend="pread")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


def _stated_hashes(folder: Path) -> dict[str, Any]:
    hashes = read_config(folder).get("files")
    return hashes if isinstance(hashes, dict) else {}


def load_weights(module: nn.Module, folder: Path, weights: str = "ema") -> None:
    """Fill a module from `ema.safetensors` or ("raw") `model.safetensors`; names and shapes must match.

    Raises:
        CheckpointError: with the difference.
    """
    module.load_state_dict(read_like(folder, _file_of(folder, weights), module.state_dict()))


def loaded(build: Callable[[], Built], folder: Path, weights: str = "ema") -> Built:
    """What `build` builds, with weights as in `load_weights`.

    The sizes to build may be those of a foreign config.json: what becomes far larger than the file is not
    built to its end.

    Raises:
        CheckpointError: with the difference.
    """
    name = _file_of(folder, weights)
    given = read_tensors(folder, name)
    try:
        with _not_larger_than(given):
            module = build()
    except (RuntimeError, OverflowError, MemoryError) as error:  # also: no tensor can be that large
        what, _, _ = str(error).partition("\n")
        raise CheckpointError(f"{folder / name}: made for another network: {what}", OWN_SIZES) from None
    check_names_and_shapes(given, {key: p.shape for key, p in module.state_dict().items()}, folder / name)
    module.load_state_dict(given)
    return module


@contextmanager
def _not_larger_than(given: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, a module with far more parameters, or with far larger ones, is a RuntimeError.

    Modules make a parameter before they fill it, and an empty tensor takes no memory yet: so sizes are looked
    at first, without the second that the device `meta` costs each process.
    """
    left = {"tensors": SPARE + 2 * len(given), "numbers": SPARE_NUMBERS + 4 * _numbers(given.values())}

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        left["tensors"] -= 1
        left["numbers"] -= _numbers([] if value is None else [value])
        for what, number in left.items():
            if number < 0:
                raise RuntimeError(f"it has many more {what} than the file")

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _numbers(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() for value in tensors)


def _file_of(folder: Path, weights: str) -> str:
    """A checkpoint that states no average has one set of weights, which stands for both."""
    averaged = weights == "ema" and "ema.safetensors" in _stated_hashes(folder)
    return "ema.safetensors" if averaged else "model.safetensors"


def read_like(folder: Path, name: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`read_tensors` with exactly the names and shapes of `wanted`.

    Raises:
        CheckpointError: with the difference.
    """
    found = read_tensors(folder, name)
    check_names_and_shapes(found, {key: p.shape for key, p in wanted.items()}, folder / name)
    return found


def check_names_and_shapes(found: dict[str, Tensor], wanted: dict[str, torch.Size], place: Path) -> None:
    """Raises CheckpointError naming what is missing, surplus or misshapen."""
    parts = [
        ("missing", sorted(wanted.keys() - found.keys())),
        ("surplus", sorted(found.keys() - wanted.keys())),
        (
            "of another shape",
            [
                f"{key} {tuple(found[key].shape)} for {tuple(shape)}"
                for key, shape in wanted.items()
                if key in found and found[key].shape != shape
            ],
        ),
    ]
    wrong = [
        f"{what}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}" for what, names in parts if names
    ]
    if wrong:
        raise CheckpointError(
            f"{place}: made for another network; {'; '.join(wrong)}",
            OWN_SIZES,
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
