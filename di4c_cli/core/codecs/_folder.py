"""Codec folders: where a codec's weights are looked for, and that they are of the right kind."""

from pathlib import Path
from typing import Any

from di4c_cli.core import checkpoints
from di4c_cli.errors import CheckpointError


def read_architecture(text: str | None, kind: str, hint: str) -> tuple[Path, dict[str, Any]]:
    """The checkpoint folder of a codec, by path or relative name, and its architecture as it states it.

    Raises:
        CheckpointError: there is none, or it is no codec of that kind; the hint tells how one is made.
    """
    folder = checkpoints.find(text) if text else None
    if folder is None:
        place = f"codec.checkpoint: {text}: no checkpoint there" if text else "codec.checkpoint: not set"
        raise CheckpointError(f"{place}; images cannot be encoded or decoded without", hint)
    config = checkpoints.read_config(folder)
    if config.get("role") != "codec" or config["kind"] != kind:
        raise CheckpointError(f"{folder / 'config.json'}: not a codec of kind {kind}", hint)
    return folder, config["architecture"]
