"""Looking into a text file of any size that another process appends to, without ever loading it.

The file counts as blocks of 64 KiB. An index knows how many lines begin before each block, so that a line is
found by reading its block again; the lines that match a filter have an index of the same kind.
One thread at a time, and never the one that draws.
"""

import os
import re
import stat
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK = 2**16
LONGEST = 4096  # bytes of a line that are looked at
_BLOCKS_PER_POLL = 64  # 4 MiB
_TAIL = 2**18  # bytes from the end in which the last lines are looked for
_ANCHOR = 64  # bytes before the end of what was read that must still be there
# Control characters, and those that turn or break a line: terminals act on them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
Line = tuple[int, str]  # number in the file from 0, text


def compile_filter(text: str) -> re.Pattern[str] | None:
    """None: no filter. What is no regular expression is looked for as it stands."""
    if not text:
        return None
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError):
        return re.compile(re.escape(text), re.IGNORECASE)


class _Index:
    """How many lines of a kind begin before each block."""

    def __init__(self) -> None:
        self.counts = array("Q", [0])
        self.end = 0  # bytes of the file that are counted

    @property
    def total(self) -> int:
        return self.counts[-1]

    def find(self, item: int) -> tuple[int, int]:
        """The block in which it begins, and how many of the kind begin there before it."""
        block = bisect_right(self.counts, item) - 1
        return block, item - self.counts[block]

    def reopen(self) -> int:
        """Forget the blocks of which lines may have grown; the first block to count again."""
        final = max(0, self.end - LONGEST) // BLOCK
        del self.counts[final + 1 :]
        return final


class LogFile:
    """Follows one file; `poll` looks for news, the other methods read the lines that are wanted.

    A file that was cut, replaced or rewritten is noticed by the bytes before the end of what was read, and
    indexed anew. `problem` tells why there is nothing to read; it may come back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._pattern: re.Pattern[str] | None = None
        self._forget()

    def _forget(self) -> None:
        self._size = 0
        self._signature: tuple[int, ...] = ()
        self._anchor = b""
        self._lines, self._matches = _Index(), _Index()

    # -- what is known -----------------------------------------------------------------------

    @property
    def num_lines(self) -> int:
        """Lines found so far; one without an end counts too."""
        return self._lines.total

    @property
    def num_matches(self) -> int:
        return self._matches.total

    @property
    def behind(self) -> bool:
        """There is more than one poll reads."""
        return self._done < self._size

    @property
    def share(self) -> float:
        """Of the file that is indexed, between 0 and 1."""
        return self._done / self._size if self._size else 1.0

    @property
    def _done(self) -> int:
        return self._lines.end if self._pattern is None else min(self._lines.end, self._matches.end)

    # -- news --------------------------------------------------------------------------------

    def filter(self, pattern: re.Pattern[str] | None) -> None:
        """Look for lines that match; another pattern starts from the top, at the next poll."""
        if pattern != self._pattern:
            self._pattern = pattern
            self._matches = _Index()

    def poll(self) -> bool:
        """Read at most 4 MiB for each index; whether anything changed."""
        try:
            status = os.stat(self.path)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("not a file")
            signature = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if signature == self._signature and not self.behind:
                return False
            with open(self.path, "rb") as file:
                self._read_on(file)
        except OSError as error:
            return self._lose(error)
        self._signature = signature
        self.problem = ""
        return True

    def _lose(self, error: OSError) -> bool:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        problem = f"no {self.path.name} yet" if missing else f"{self.path.name}: {error.strerror or error}"
        changed = problem != self.problem
        self.problem = problem
        self._forget()
        return changed

    def _read_on(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        if size < self._lines.end or self._before_end(file) != self._anchor:
            self._forget()
        self._size = size
        self._extend(file, self._lines, _num_starts)
        if self._pattern is not None:
            self._extend(file, self._matches, self._num_matching)
        self._anchor = self._before_end(file)

    def _before_end(self, file: BinaryIO) -> bytes:
        start = max(0, self._lines.end - _ANCHOR)
        file.seek(start)
        return file.read(self._lines.end - start)

    def _extend(self, file: BinaryIO, index: _Index, count: Callable[[bytes], int]) -> None:
        if index.end == self._size:
            return
        first = index.reopen()
        last = min(first + _BLOCKS_PER_POLL, -(-self._size // BLOCK))
        for block in range(first, last):
            index.counts.append(index.total + count(self._block(file, block)))
        index.end = min(self._size, last * BLOCK)

    def _num_matching(self, block: bytes) -> int:
        return sum(map(self._is_wanted, _texts(block)))

    def _is_wanted(self, text: str) -> bool:
        return self._pattern is None or self._pattern.search(text) is not None

    # -- lines -------------------------------------------------------------------------------

    def lines(self, start: int, count: int) -> list[str]:
        """Lines from number `start`; fewer when the file has changed since the poll."""
        return [text for _, text in self._window(self._lines, lambda _: True, start, count)]

    def matches(self, start: int, count: int) -> list[Line]:
        """The lines that match, from match number `start`."""
        return self._window(self._matches, self._is_wanted, start, count)

    def last(self, count: int) -> list[str]:
        """The end of the file as it is now, whatever is indexed."""
        try:
            with open(self.path, "rb") as file:
                start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
                file.seek(start)
                lines = file.read(_TAIL).split(b"\n")
        except OSError:
            return []
        if start and len(lines) > 1:  # begins within a line
            del lines[0]
        if not lines[-1]:
            del lines[-1]
        return [_text(line) for line in lines[-count:]]

    def _window(self, index: _Index, wanted: Callable[[str], bool], start: int, count: int) -> list[Line]:
        found: list[Line] = []
        count = min(count, index.total - start)
        try:
            with open(self.path, "rb") as file:
                while len(found) < count:
                    block, rank = index.find(start + len(found))
                    lines = enumerate(_texts(self._block(file, block)), self._lines.counts[block])
                    more = [line for line in lines if wanted(line[1])][rank:]
                    if not more:  # another file by now
                        break
                    found += more
        except OSError:
            return []
        return found[: max(0, count)]

    def _block(self, file: BinaryIO, block: int) -> bytes:
        """A block with the byte before it, and what follows so that its last line is long enough."""
        start = max(0, block * BLOCK - 1)
        file.seek(start)
        data = file.read(min(self._size, (block + 1) * BLOCK + LONGEST) - start)
        return data if block else b"\n" + data


def _num_starts(block: bytes) -> int:
    """Lines that begin in the block: a newline before a byte that is there."""
    return block.count(b"\n", 0, min(BLOCK, max(0, len(block) - 1)))


def _texts(block: bytes) -> list[str]:
    """The lines that begin in the block."""
    number = _num_starts(block)
    first = block.find(b"\n") + 1
    return [_text(line) for line in block[first:].split(b"\n", number)[:number]]


def _text(line: bytes) -> str:
    """Fit for a terminal."""
    text = line[:LONGEST].decode("utf-8", "replace").removesuffix("\r")
    if not text.isprintable():
        text = _CONTROL.sub("·", text.expandtabs(4))
    return text + "…" * (len(line) > LONGEST)


@dataclass(frozen=True)
class Wanted:
    """Lines to look at: `count` from place `top` on, or the last ones; places among those that match."""

    pattern: re.Pattern[str] | None = None
    following: bool = True
    top: int = 0
    count: int = 0


@dataclass(frozen=True)
class Look:
    """What was found: `lines` from place `first` on, of `num_shown` places.

    `share` of the file that is indexed by now.
    """

    wanted: Wanted = Wanted()
    num_lines: int = 0
    num_shown: int = 0
    share: float = 1.0
    first: int = 0
    lines: tuple[Line, ...] = ()
    problem: str = ""


def look(log: LogFile, wanted: Wanted) -> Look:
    """While the index is behind, the end comes from the end of the file."""
    filtered = wanted.pattern is not None
    total = log.num_matches if filtered else log.num_lines
    first = max(0, total - wanted.count) if wanted.following else wanted.top
    if filtered:
        lines = log.matches(first, wanted.count)
    else:
        at_the_end = wanted.following and log.behind
        texts = log.last(wanted.count) if at_the_end else log.lines(first, wanted.count)
        if at_the_end:
            first = max(0, total - len(texts))
        lines = list(enumerate(texts, first))
    shown = max(total, first + len(lines)) if lines else total
    return Look(wanted, log.num_lines, shown, log.share, first, tuple(lines), log.problem)
