"""Torch files without running what is in them.

`torch.load(weights_only=True)` executes nothing. Files of Lightning also hold settings as objects of other
packages; of the packages listed here these become empty stand-ins, and everything else is refused by name.
"""

import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from di4c_cli.errors import CheckpointError

SETTINGS = re.compile(
    r"(omegaconf|pytorch_lightning|lightning|lightning_fabric|transformers|tokenizers|numpy|pathlib)\.[\w.]+"
    r"|typing\.Any|builtins\.(dict|list|tuple|str|int|float|bool|bytes|object|type)"
)
"""Classes that settings are made of, and that may be left out: no weights lie in them."""
TABLES = re.compile(r"collections\.defaultdict|[\w.]+\.AttributeDict")
"""Those that are filled like a dictionary."""


class Inert:
    """In the place of an object whose class is not loaded; whatever it is given is dropped."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Table:
    """The same for dictionaries: an empty plain one."""

    def __new__(cls, *args: object) -> Any:
        return {}


def read_pickle(path: Path) -> Any:
    """The content of a torch zip file; tensors are mapped from the file, not copied.

    Raises:
        CheckpointError: damaged, compressed, or holding objects that are neither tensors nor settings.
    """
    _check_zip(path)
    try:
        found = get_unsafe_globals_in_checkpoint(path)
        foreign = sorted(name for name in found if not (SETTINGS.fullmatch(name) or TABLES.fullmatch(name)))
        if foreign:
            more = " ..." if len(foreign) > 3 else ""
            raise CheckpointError(
                f"{path}: holds objects that are no tensors: {', '.join(foreign[:3])}{more}",
                "they could run code, so the file is not read; get its weights as safetensors",
            )
        stand_ins = [(Table if TABLES.fullmatch(name) else Inert, name) for name in found]
        with safe_globals(stand_ins), warnings.catch_warnings(action="ignore"):
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception as error:  # a pickle made for it can raise anything
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read: {reason[:200]}", "it is damaged, or no file of torch.save"
        ) from None


def _check_zip(path: Path) -> None:
    """A whole zip file of plain records: their sizes are bounded by that of the file.

    Raises:
        CheckpointError: it is not.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if any(info.compress_type != zipfile.ZIP_STORED for info in file.infolist()):
                raise CheckpointError(f"{path}: a compressed zip file, not one of torch.save")
            bad = file.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: damaged or cut short: {error}", "download it again") from None
    if bad is not None:
        raise CheckpointError(f"{path}: damaged: the checksum of {bad} is wrong", "download it again")
