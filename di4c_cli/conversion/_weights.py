"""The weights in a released file: the state dict of its network, or the list of averages beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from di4c_cli.conversion._beside import Told
from di4c_cli.conversion._design import Design, Tensors
from di4c_cli.conversion.names import Naming
from di4c_cli.errors import CheckpointError

HINT = "the file is damaged, or of another --kind"


@dataclass(frozen=True)
class Family:
    """Released files of one architecture, teachers' and students'."""

    marker: str
    """A tensor that only they have."""
    state: str
    """The key of a torch file that holds the tensors; safetensors hold nothing else."""
    step: str
    """The key that holds the training steps."""
    averages: Callable[[dict[str, Any], dict[str, Any]], Any]
    """From the file and its state: the list of averaged weights, or None."""
    settings: type[Told]
    beside: tuple[str, ...]
    """Files that tell settings."""
    design: Callable[[Tensors, Any, bool], Design]
    """From the tensors, the settings, and whether it is a student."""
    ignored: str | None = None
    """Tensors whose names begin so belong to something else."""
    buffers: tuple[str, ...] = ()
    """Tensors that are not parameters: lists of averages leave them out."""
    extras: tuple[str, ...] = ()
    """Entries of the state that are no tensors."""


@dataclass(frozen=True)
class Weights:
    """One set of weights."""

    tensors: dict[str, Tensor]
    """By released name, without prefixes, in the file's order; float32."""
    step: int
    """Training steps, 0 where the file does not tell."""


def choose(path: Path, content: Any, family: Family, naming: Naming, weights: str) -> Weights:
    """The "raw" or the averaged ("ema") weights in the content of a file.

    Raises:
        CheckpointError: they are not there, or not what weights are.
    """
    state = _state(path, content, family)
    named: dict[str, Any] = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: a tensor has the name {name!r:.40}", HINT)
        bare = naming.bare(name)
        if name in family.extras or (family.ignored and bare.startswith(family.ignored)):
            continue
        if bare in named:
            raise CheckpointError(f"{path}: {bare} is there twice, under different prefixes", HINT)
        named[bare] = value
    if weights == "ema":
        named |= _averaged(path, family.averages(content, state), named, family)
    size = sum(_bytes(path, name, value) for name, value in named.items())
    if size > path.stat().st_size:
        raise CheckpointError(f"{path}: its tensors claim {size} bytes, more than the file has", HINT)
    step = content.get(family.step)
    steps = step if type(step) is int and step >= 0 else 0
    return Weights({name: _float32(path, name, value) for name, value in named.items()}, steps)


def _state(path: Path, content: Any, family: Family) -> dict[Any, Any]:
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no table of tensors", HINT)
    state = content.get(family.state)
    if isinstance(state, dict):
        return state
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return content
    keys = ", ".join(f"{key!s:.40}" for key in list(content)[:5]) or "nothing"
    raise CheckpointError(f"{path}: holds no table {family.state!r} (it holds: {keys})", HINT)


def _averaged(path: Path, averages: Any, named: dict[str, Any], family: Family) -> dict[str, Any]:
    """The list by names: the order of registration is the order of the state, without buffers."""
    if averages is None:
        raise CheckpointError(f"{path}: holds no averaged weights", "leave --weights ema out")
    names = [name for name in named if name not in family.buffers]
    if not isinstance(averages, list | tuple) or len(averages) != len(names):
        count = len(averages) if isinstance(averages, list | tuple) else "no list of"
        raise CheckpointError(f"{path}: {count} averaged weights for {len(names)} parameters", HINT)
    for name, value in zip(names, averages, strict=True):
        own = named[name]
        if isinstance(own, Tensor) and isinstance(value, Tensor) and own.shape != value.shape:
            shapes = f"{tuple(value.shape)} for {tuple(own.shape)}"
            raise CheckpointError(f"{path}: the averaged {name} is of another shape: {shapes}", HINT)
    return dict(zip(names, averages, strict=True))


def _bytes(path: Path, name: str, value: Any) -> int:
    """The size of a tensor whose every number lies in the file.

    Raises:
        CheckpointError: it is none: what it claims to hold is not there, or no numbers of a network.
    """
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        raise CheckpointError(f"{path}: {name:.80} is no plain tensor but {type(value).__name__}", HINT)
    if not value.is_floating_point():
        raise CheckpointError(f"{path}: {name:.80} holds {value.dtype}, not floating-point numbers", HINT)
    size = value.numel() * value.element_size()
    if size > value.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: {name:.80} claims more numbers than the file has", HINT)
    return size


def _float32(path: Path, name: str, value: Tensor) -> Tensor:
    """As networks here hold it."""
    if not value.isfinite().all():
        raise CheckpointError(f"{path}: {name} holds numbers that are not finite", "use another checkpoint")
    return value.detach().float()
