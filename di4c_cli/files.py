"""Files that are written whole or not at all, and what is cleared away (standard library only)."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from di4c_cli.errors import RunError, UsageError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
"""What a disk answers that is full or failing, and no place that is wrong."""


def refuse_existing(out: Path) -> None:
    """A folder that a command is to make must not hold anything yet.

    Raises:
        UsageError: something is there.
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"--out {out}: exists already", "choose a new folder")


def open_to_read(path: Path) -> BinaryIO:
    """A file in a folder that may come from elsewhere: a pipe in its place would keep its reader waiting.

    Raises:
        OSError: nothing is there, or no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def write_text_atomic(path: Path, text: str) -> None:
    """Replace `path` whole or not at all, with the permissions it had; a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.is_file() and not path.is_symlink():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def remove(path: Path) -> None:
    """Take away a file or a folder, if it is there. A link goes, and what it leads to stays.

    Raises:
        OSError: it cannot be taken away.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """What is refused within becomes one line: a failing disk fails the run, else the place is wrong."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in DISK:
            raise RunError(f"{place}: cannot be written: {reason}", "make room and try again") from error
        raise UsageError(f"{place}: cannot be written: {reason}", "choose another place") from error
