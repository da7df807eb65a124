"""config.json of a checkpoint folder: what the model is, the hashes of its files, and its own."""

import hashlib
import json
from pathlib import Path
from typing import Any

from di4c_cli.errors import CheckpointError
from di4c_cli.files import open_to_read

FORMAT = 2
READABLE = (1, 2)
"""Format 1 has no hash of its own; released and shipped checkpoints are of it."""
LIMIT = 2**24  # bytes: a recipe is some kilobytes


def header_text(header: dict[str, Any], *, strict: bool = True) -> str:
    """The file, byte for byte: `header` in one spelling, with the hash of that as its last entry.

    Raises:
        ValueError: a number is not finite, for which JSON has no word; unless it need not be strict.
    """
    plain = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(plain, indent=1, allow_nan=not strict).encode()).hexdigest()
    return json.dumps({**plain, "sha256": digest}, indent=1) + "\n"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder.

    Raises:
        CheckpointError: not a checkpoint of ours, damaged, or a newer format.
    """
    path = folder / "config.json"
    try:
        with open_to_read(path) as file:
            raw = file.read(LIMIT + 1)
        if len(raw) > LIMIT:
            raise ValueError(f"longer than {LIMIT} bytes")
        text = raw.decode()
        config = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{folder}: no checkpoint here (config.json is missing)", "give a run or a checkpoint folder"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if not isinstance(config, dict) or not _is_ours(config):
        raise CheckpointError(
            f"{path}: not a di4c checkpoint", "released files of other projects go through `di4c convert`"
        )
    if config["format"] not in READABLE:
        raise CheckpointError(
            f"{path}: format {config['format']}, this program reads {FORMAT}", "update di4c"
        )
    # The whole text is compared, so that no byte of it can change: not even one that leaves the content.
    # Not strictly, as headers once told figures that were not finite.
    if ("sha256" in config or config["format"] != 1) and text != header_text(config, strict=False):
        raise CheckpointError(
            f"{path}: damaged (its hash is not the one that it states)", "use another checkpoint of the run"
        )
    return config


def _is_ours(config: dict[str, Any]) -> bool:
    """Whether this is the header of a model, with its recipe, or of a part, with kind and architecture."""
    if config.get("role") in ("codec", "judge"):
        whole = isinstance(config.get("kind"), str) and isinstance(config.get("architecture"), dict)
    else:
        whole = isinstance(config.get("recipe"), dict)
    return whole and "format" in config
