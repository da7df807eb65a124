"""Downloads of public data sets, which end in one folder and never hang."""

import hashlib
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from di4c_cli.errors import DataError


def download_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/di4c."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "di4c"


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Within, connections are given up after so long without a byte; downloaders would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def downloading(what: str, folder: Path, seconds: float, hint: str) -> Iterator[None]:
    """Within, what goes wrong is told in one line.

    Raises:
        DataError: there is no connection, or the wrong file came.
    """
    try:
        with patience(seconds):
            yield
    except (OSError, RuntimeError, ValueError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]  # torchvision lists every mirror
        raise DataError(f"{what} could not be downloaded to {folder}: {cause}", hint) from error


def fetch(url: str, sha256: str, path: Path, most: int) -> None:
    """One small file of at most `most` bytes, checked, to `path`, whole or not at all.

    Raises:
        OSError: no connection, or no room.
        ValueError: another file came.
    """
    with urllib.request.urlopen(url) as answer:
        content = answer.read(most + 1)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{url} is not the file that was expected")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
