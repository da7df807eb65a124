"""Where each key of a TOML file stands: tomllib tells values, not places."""

import re
import tomllib
from bisect import bisect_left

Key = tuple[str | int, ...]
"""A place in a recipe: table keys, and indices of lists."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\]|\\.)*"' r"|'[^']*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def dotted(key: Key) -> str:
    """`losses.0.weight`, the spelling of overrides and messages."""
    return ".".join(str(part) for part in key)


def key_lines(text: str) -> dict[Key, int]:
    """The 1-based line of every key, table and list item of a TOML document that tomllib accepts."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def without_entry(lines: dict[Key, int], key: Key) -> dict[Key, int]:
    """The lines after the list entry at `key` has been taken out: later entries move up by one."""
    *table, index = key
    depth = len(table)
    kept: dict[Key, int] = {}
    for place, line in lines.items():
        if place[:depth] == key[:-1] and len(place) > depth and place[depth] >= index:
            if place[depth] == index:
                continue
            place = (*table, place[depth] - 1, *place[depth + 1 :])
        kept[place] = line
    return kept


class _Scanner:
    """One pass over a document known to be valid, so that nothing has to be checked again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Key, int] = {}
        self._arrays: dict[Key, int] = {}  # how many [[tables]] of a name there are so far
        self._newlines = [m.start() for m in re.finditer("\n", text)]

    def document(self) -> None:
        table: Key = ()
        self._skip_blank()
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip_blank()

    def _header(self) -> Key:
        line = self._line()
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        parts = self._key()
        self.at += 2 if array else 1
        path: Key = ()
        for rest in range(len(parts) - 1, -1, -1):
            path += (parts[-1 - rest],)
            self.lines.setdefault(path, line)
            if path in self._arrays and (rest or not array):
                path += (self._arrays[path] - 1,)
        if array:
            index = self._arrays.get(path, 0)
            self._arrays[path] = index + 1
            path += (index,)
        self.lines[path] = line
        return path

    def _pair(self, table: Key) -> None:
        line = self._line()
        path = table
        for part in self._key():
            path += (part,)
            self.lines.setdefault(path, line)
        self.at += 1  # "="
        self._skip_blank()
        self._value(path)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip_blank()
            part = _PART.match(self.text, self.at)[0]
            self.at += len(part)
            parts.append(next(iter(tomllib.loads(f"{part} = 0"))))
            self._skip_blank()
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def _value(self, path: Key) -> None:
        opening = self.text[self.at]
        if opening == "[":
            self._list(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            pattern = _STRING if opening in "\"'" else _SCALAR
            self.at = pattern.match(self.text, self.at).end()

    def _list(self, path: Key) -> None:
        self.at += 1
        index = 0
        self._skip_blank()
        while self.text[self.at] != "]":
            self.lines[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1
            self._skip_comma()
        self.at += 1

    def _inline_table(self, path: Key) -> None:
        self.at += 1
        self._skip_blank()
        while self.text[self.at] != "}":
            self._pair(path)
            self._skip_comma()
        self.at += 1

    def _skip_comma(self) -> None:
        self._skip_blank()
        if self.text[self.at] == ",":
            self.at += 1
            self._skip_blank()

    def _skip_blank(self) -> None:
        self.at = _BLANK.match(self.text, self.at).end()

    def _line(self) -> int:
        return bisect_left(self._newlines, self.at) + 1
