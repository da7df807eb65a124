"""Released checkpoints, as their authors wrote them, into checkpoint folders of ours.

Each family of files has a module: `text`, `maskgit`, `tauldr`, `vqgan`. Nothing of a file is executed, its
sizes are read from its tensors, and every name and shape must be that of our network: no part of a file is
converted.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from di4c_cli import __version__
from di4c_cli.conversion import _sources, maskgit, tauldr, text, vqgan
from di4c_cli.conversion._beside import told
from di4c_cli.conversion._design import ANOTHER, Design, Tensors
from di4c_cli.conversion._weights import Family, Weights, choose
from di4c_cli.conversion.names import NAMING, Naming, our_name, released_name
from di4c_cli.core import checkpoints
from di4c_cli.errors import CheckpointError
from di4c_cli.files import refuse_existing

__all__ = ["KINDS", "convert", "our_name", "released_name"]


@dataclass(frozen=True)
class Kind:
    """One word of `--kind`."""

    family: Family
    student: bool = False
    weights: str = "raw"
    """Which set of weights the authors sample from."""


KINDS = {
    "mdlm": Kind(text.FAMILY),
    "sdtt": Kind(text.FAMILY),
    "maskgit": Kind(maskgit.FAMILY),
    "vqgan": Kind(vqgan.FAMILY),
    "tauldr": Kind(tauldr.FAMILY, weights="ema"),
    "di4c-tauldr": Kind(tauldr.FAMILY, student=True, weights="ema"),
    "di4c-maskgit": Kind(maskgit.FAMILY, student=True),
    "di4c-sdtt": Kind(text.FAMILY, student=True),
}


def convert(
    given: str, kind: str, out: Path, *, hparams: Path | None = None, weights: str | None = None
) -> dict[str, Any]:
    """Write the folder `out` from a released file, folder or `hf:owner/name`; the contract's JSON result.

    Args:
        hparams: JSON with what neither the tensors nor the files beside them tell.
        weights: "ema" or "raw"; default: what the authors sample from.

    Raises:
        UsageError, CheckpointError: with the difference; nothing is written.
        OSError: the disk is full or not writable; nothing is left behind.
    """
    refuse_existing(out)
    family, student, weights = KINDS[kind].family, KINDS[kind].student, weights or KINDS[kind].weights
    source = _sources.find(given)
    settings = told(family.settings, source.path, family.beside, hparams)
    content = _sources.read(source.path)
    chosen = choose(source.path, content, family, NAMING[kind], weights)
    _check_kind(source.path, chosen.tensors, kind)
    shapes = {name: tuple(value.shape) for name, value in chosen.tensors.items()}
    design = family.design(Tensors(source.path, shapes), settings, student)
    _check_tensors(source.path, chosen.tensors, design, NAMING[kind])
    origin = {
        "kind": kind,
        "file": source.path.name,
        **source.origin,
        "sha256": _sha256(source.path),
        "weights": weights,
        "assumed": design.assumed,
    }
    _write(out, design, chosen, NAMING[kind], origin)
    return {
        "out": str(out),
        "kind": kind,
        "tensors": len(chosen.tensors),
        "parameters": sum(value.numel() for value in chosen.tensors.values()),
        "weights": weights,
        "assumed": design.assumed,
    }


def _check_kind(path: Path, tensors: dict[str, Tensor], kind: str) -> None:
    """Raises CheckpointError where names show another kind, which then is the hint."""
    named = [
        name
        for name, known in KINDS.items()
        if known.family.marker in tensors
        and known.student == any(NAMING[name].ours(tensor) != tensor for tensor in tensors)
    ]
    if named and kind not in named:
        raise CheckpointError(f"{path}: no weights of {kind}", f"give --kind {' or '.join(named)}")


def _check_tensors(path: Path, tensors: dict[str, Tensor], design: Design, naming: Naming) -> None:
    """Raises CheckpointError where names and shapes are not exactly those of our network."""
    wanted = {naming.theirs(name): torch.Size(shape) for name, shape in design.wanted.items()}
    try:
        checkpoints.check_names_and_shapes(tensors, wanted, path)
    except CheckpointError as error:
        raise CheckpointError(error.message, ANOTHER) from None


def _write(out: Path, design: Design, chosen: Weights, naming: Naming, origin: dict[str, Any]) -> None:
    """Beside its place first, then all at once: an interruption leaves nothing there."""
    model = {design.prefix + naming.ours(name): value for name, value in chosen.tensors.items()}
    header = {"di4c": __version__, **design.header, "step": chosen.step, "source": origin}
    place = Path(os.path.abspath(out))
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as scratch:
        made = Path(scratch) / "made"
        checkpoints.save(made, config=header, model=model, ema=None, card=_card(place.name, design, origin))
        os.replace(made, place)


def _card(name: str, design: Design, origin: dict[str, Any]) -> str:
    """The README.md of the folder."""
    where = f" of {origin['repository']} at {origin['revision']}" if "repository" in origin else ""
    assumed = "".join(f"- {key}: {value}\n" for key, value in origin["assumed"].items())
    told = f"\nNot told by the release, and assumed:\n\n{assumed}" if assumed else ""
    return f"""---
library_name: di4c
license: other
tags: [discrete-diffusion, {origin["kind"]}]
---
# {name}

A {design.what}, converted with di4c {__version__} from `{origin["file"]}`{where}
(kind {origin["kind"]}, {origin["weights"]} weights, sha256 {origin["sha256"]}).
The licence is that of the release.
{told}"""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
