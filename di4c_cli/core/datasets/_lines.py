"""Small text files that a recipe names, a data point a line."""

import os
from pathlib import Path

from di4c_cli.core.datasets import data_root
from di4c_cli.errors import DataError


def located(path: str | None, below: str, kind: str) -> Path:
    """Where data lie: at a path, whose $NAMES are of the environment, or else at a place below $DI4C_DATA.

    Raises:
        DataError: no path is given, and there is no $DI4C_DATA.
    """
    if path is not None:
        return Path(os.path.expandvars(path)).expanduser()
    root = data_root()
    if root is None:
        raise DataError(f"{kind}: DI4C_DATA is not set", f"set it to a folder with {below}, or dataset.path")
    return root / below


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without white space at their ends.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        return [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "set dataset.path to where the data lie") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a UTF-8 text", "set dataset.path to where the data lie") from error
