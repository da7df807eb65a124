"""Files of JSON lines that another process writes: what is new in them, and a look all over a long one."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from di4c_cli.files import open_to_read

CHUNK = 2**20  # bytes a poll reads at most: a long history arrives in pieces, and the screen stays alive
LONG = 2**23  # bytes from which a history is shown by an overview first
_PIECE = 2**16  # bytes parsed in one go: Python does nothing else meanwhile
_ANCHOR = 64  # bytes before the offset that must still be there
_PLACES, _PLACE = 300, 2**13  # how many pieces of a long history make its overview, and of how many bytes


@dataclass(frozen=True)
class Increment:
    """Rows that came; `restarted`: the file is another one now, and the rows are its first."""

    rows: list[dict[str, Any]]
    restarted: bool = False


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects among the lines; anything else is passed over."""
    lines = [line for line in data.split(b"\n") if line]
    try:  # all at once is a third faster than one by one
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        rows = [row for line in lines if (row := _parse(line)) is not None]
    # A line of two objects with a comma between them is none of ours; then the count tells.
    rows = rows if len(rows) == len(lines) else [row for line in lines if (row := _parse(line)) is not None]
    return [row for row in rows if isinstance(row, dict)]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class JsonLinesTail:
    """Follows a file of JSON lines by byte offset, up to its last newline.

    A file that was cut, replaced or rewritten is noticed by the bytes just before the offset, and read anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behind = False  # there was more than one poll reads
        self.share = 1.0  # of the file that has been read
        self._offset = 0
        self._anchor = b""

    def poll(self) -> Increment:
        """Up to CHUNK bytes more. A missing file has nothing new; it may come back."""
        try:
            with open_to_read(self.path) as file:
                file.seek(self._offset - len(self._anchor))
                restarted = file.read(len(self._anchor)) != self._anchor
                if restarted:
                    self._offset, self._anchor = 0, b""
                    file.seek(0)
                data = file.read(CHUNK)
                size = os.fstat(file.fileno()).st_size
        except OSError:
            self.behind = False
            return Increment([])
        self.behind = len(data) == CHUNK
        end = data.rfind(b"\n") + 1
        if end == 0 and self.behind:  # no metrics row is as long: pass over it
            end = CHUNK
        whole = data[:end]
        self._offset += end
        self._anchor = (self._anchor + whole)[-_ANCHOR:]
        self.share = self._offset / size if self.behind and size else 1.0
        return Increment([row for piece in _pieces(whole) for row in parse_lines(piece)], restarted)


def _pieces(data: bytes) -> list[bytes]:
    """Cut behind the newlines nearest to every _PIECE bytes."""
    pieces, start = [], 0
    while start < len(data):
        stop = data.rfind(b"\n", start, start + _PIECE) + 1 or data.find(b"\n", start) + 1 or len(data)
        pieces.append(data[start:stop])
        start = stop
    return pieces


def overview(path: Path) -> list[dict[str, Any]]:
    """Rows from places all over a long file, the first and the last ones among them; [] for a short one."""
    rows: list[dict[str, Any]] = []
    try:
        with open_to_read(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size < LONG:
                return []
            for place in range(_PLACES):
                file.seek(place * (size - _PLACE) // (_PLACES - 1))
                data = file.read(_PLACE)
                begin = data.find(b"\n") + 1 if place else 0  # it starts within a line
                rows += parse_lines(data[begin : data.rfind(b"\n") + 1])
    except OSError:
        return []
    return rows
