"""Text files, read in pieces of bounded size: .txt is a document, .jsonl one a line, both also gzipped."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from di4c_cli.core.datasets._packing import Piece
from di4c_cli.errors import DataError

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
PIECE = 2**20  # bytes that are read at once
LONGEST_LINE = 2**28  # bytes of one document in a .jsonl file
HINT = "remove the damaged file, or point the data set elsewhere"
BYTE_ORDER_MARK = "\ufeff"
PlaceJson = Annotated[list[Annotated[int, Field(ge=0, lt=2**62)]], Field(min_length=3, max_length=3)]


@dataclass(frozen=True)
class Place:
    """Where reading goes on."""

    file: int = 0
    offset: int = 0
    """Bytes, unpacked."""
    line: int = 1

    def as_json(self) -> list[int]:
        return [self.file, self.offset, self.line]


Found = tuple[str, bool, int, Place]
"""A piece: its text, whether the document ends, its first line, and where the next piece begins."""


@dataclass(frozen=True)
class TextFiles:
    """A file, or all text files below a folder in the order of their names."""

    root: Path
    files: tuple[Path, ...]

    @classmethod
    def find(cls, path: Path, key: str) -> "TextFiles":
        """What lies at a path.

        Raises:
            DataError: nothing does; `key` is the recipe's key to set.
        """
        if path.is_dir():
            files = sorted(
                file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file()
            )
            if not files:
                raise DataError(
                    f"{path}: no {', '.join(SUFFIXES)} file in it", f"set {key} to a folder of texts"
                )
            return cls(path, tuple(files))
        if not path.exists():
            raise DataError(
                f"{path}: No such file or directory", f"set {key} to a text file or a folder of them"
            )
        return cls(path.parent, (path,))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)

    def identity(self) -> list[Any]:
        """Name, size and time of change of every file: an edit is noticed, a move of the whole is not."""
        return [
            [str(path.relative_to(self.root)), path.stat().st_size, path.stat().st_mtime_ns]
            for path in self.files
        ]

    def pieces(self, place: list[int] | None) -> Iterator[Piece]:
        """Everything from a place on.

        Raises:
            DataError: a file cannot be read, is no UTF-8, or a line of it no JSON object with a text.
        """
        begin = Place(*(place or ()))
        sizes, total = [path.stat().st_size for path in self.files], self.size
        for number in range(begin.file, len(self.files)):
            path = self.files[number]
            at = begin if number == begin.file else Place(number)
            try:
                with open(path, "rb") as raw:
                    unpacked = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
                    unpacked.seek(at.offset)
                    read = _lines if path.name.removesuffix(".gz").endswith(".jsonl") else _text
                    for text, ends, line, after in read(unpacked, path, at):
                        done = sum(sizes[:number]) + raw.tell()
                        yield Piece(text, ends, after.as_json(), str(path), line, done, total)
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}", HINT) from error


def _text(file: BufferedIOBase, path: Path, at: Place) -> Iterator[Found]:
    """A document in pieces.

    A piece depends on where it begins and not on where reading began, so that a build that goes on makes the
    shards of one that was never stopped.
    """
    raw, last = b"", False
    while not last:
        raw += file.read(PIECE - len(raw))
        last = len(raw) < PIECE
        try:
            text, _ = codecs.utf_8_decode(raw, "strict", last)
        except UnicodeDecodeError as error:
            place = f"byte {at.offset + error.start}"
            raise DataError(
                f"{path}: not a UTF-8 text ({place})", "convert it, or set another path"
            ) from error
        if not last:
            text = text[: _cut(text)]
        size = len(text.encode())
        raw = raw[size:]
        begins, line = at.offset == 0, at.line
        at = Place(at.file + 1) if last else Place(at.file, at.offset + size, at.line + text.count("\n"))
        yield (text.removeprefix(BYTE_ORDER_MARK) if begins else text).replace("\r\n", "\n"), last, line, at


def _cut(text: str) -> int:
    """The last place where white space follows something else; the end, if there is none.

    Byte-pair tokenisers split there whatever comes next, so that the pieces have the tokens of the whole.
    """
    end = len(text)
    while (end := max(text.rfind(" ", 0, end), text.rfind("\n", 0, end))) > 0:
        if not text[end - 1].isspace():
            return end
    return len(text)


def _lines(file: BufferedIOBase, path: Path, at: Place) -> Iterator[Found]:
    """A document a line."""
    while raw := file.readline(LONGEST_LINE):
        if len(raw) == LONGEST_LINE:
            raise DataError(f"{path}:{at.line}: a line of more than {LONGEST_LINE} bytes", HINT)
        line, at = at.line, Place(at.file, at.offset + len(raw), at.line + 1)
        if raw.isspace():
            continue
        try:
            text = json.loads(raw)["text"]
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path}:{line}: not a JSON object with a `text`", HINT) from error
        yield text, True, line, at
