"""Meters: a share as a bar and a figure, with its past, and what else there is to say about it."""

import math
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from di4c_cli.tui.braille import Canvas

FAINT = Style(color=Color.parse("#8a8f98").rich_color)
_LABEL, _FIGURE = 9, 5  # columns
_NARROW = 34  # columns below which the history gives way
_MIN_HISTORY, _MIN_DETAILS = 8, 14
_CORE_LEVELS = "▁▂▃▄▅▆▇█"
_GROUP = 8  # cores that stand together


@dataclass(frozen=True)
class Meter:
    """A share with its past (NaN: not known) and what else there is to say, most important first."""

    label: str
    colour: Color
    past: tuple[float, ...]
    details: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        return self.past[-1]


@dataclass(frozen=True)
class Note:
    """A line that only says something."""

    label: str
    text: str


@dataclass(frozen=True)
class Columns:
    """How wide the parts of a meter are; 0: left out."""

    label: int
    bar: int
    details: int
    history: int


def draw_items(items: list[Meter | Note], width: int, rows: int) -> list[list[Strip]]:
    """The lines of each item: one for a note, `rows` for a meter.

    One row has everything side by side; several have the details below the bar, and a higher history.
    """
    columns = _one_row(items, width) if rows == 1 else _several_rows(width)
    return [
        _meter(item, columns, rows) if isinstance(item, Meter) else [_note(item, columns)] for item in items
    ]


def _label_width(width: int) -> int:
    return min(_LABEL, max(0, width - _FIGURE))


def _one_row(items: list[Meter | Note], width: int) -> Columns:
    label = _label_width(width)
    room = max(0, width - label - _FIGURE)
    if width < _NARROW:
        return Columns(label, min(20, room), 0, 0)
    bar = min(20, room // 4)
    room -= bar + 3
    details = min(room, max(_MIN_DETAILS, room * 3 // 5))
    texts = [_wrap(item.details, details, 1)[0] for item in items if isinstance(item, Meter)]
    longest = max(map(len, texts), default=0)
    return Columns(label, bar, longest, room - longest if room - longest >= _MIN_HISTORY else 0)


def _several_rows(width: int) -> Columns:
    label = _label_width(width)
    history = max(_MIN_HISTORY, min(width // 2, width - 30)) if width >= _NARROW else 0
    left = max(0, width - label - (history + 2 if history else 0))
    return Columns(label, max(0, left - _FIGURE), left, history)


def _note(note: Note, columns: Columns) -> Strip:
    return Strip([_label(note.label, columns), Segment(note.text, FAINT)])


def _meter(meter: Meter, columns: Columns, rows: int) -> list[Strip]:
    figure = "–" if math.isnan(meter.share) else f"{100 * meter.share:.0f}%"
    upper = [_label(meter.label, columns), *_bar(meter, columns.bar)]
    upper.append(Segment(f"{figure:>{_FIGURE}}", Style(bold=True)))
    past = _area(meter.past, columns.history, rows)
    colour = Style(color=meter.colour.rich_color)
    texts = [f"{text:<{columns.details}}" for text in _wrap(meter.details, columns.details, max(1, rows - 1))]
    if rows == 1:
        return [Strip([*upper, Segment(f" {texts[0]}  ", FAINT), Segment(past[0], colour)])]
    lower = [[Segment(" " * columns.label), Segment(text, FAINT)] for text in texts]
    cells = [[Segment("  "), Segment(line, colour)] for line in past]
    return [Strip([*left, *right]) for left, right in zip([upper, *lower], cells, strict=True)]


def _label(text: str, columns: Columns) -> Segment:
    return Segment(f"{text[: max(0, columns.label - 1)]:<{columns.label}}", Style(bold=True))


def _wrap(details: tuple[str, ...], width: int, count: int) -> list[str]:
    """`count` lines with as many of the details as fit."""
    lines = [""]
    for detail in details:
        joined = f"{lines[-1]} · {detail}" if lines[-1] else detail
        if len(joined) > width and lines[-1]:
            lines.append(joined := detail)
        lines[-1] = joined[:width]
    return (lines + [""] * count)[:count]


def _bar(meter: Meter, width: int) -> list[Segment]:
    full = 0 if math.isnan(meter.share) else round(min(1.0, meter.share) * width)
    faint = FAINT + Style(dim=True)
    return [
        Segment("━" * full, Style(color=meter.colour.rich_color)),
        Segment("─" * (width - full), faint),
    ]


def _area(past: tuple[float, ...], width: int, rows: int) -> list[str]:
    """The newest readings as an area, one in each column of dots, the last at the right edge."""
    canvas = Canvas(width, rows)
    newest = past[-canvas.columns :] if width else ()
    bottom = canvas.rows - 1
    for x, share in enumerate(newest, canvas.columns - len(newest)):
        if not math.isnan(share):
            canvas.vertical(x, bottom, bottom - round(min(1.0, share) * bottom), 0)
    return ["".join(canvas.cell(x, row)[0] for x in range(width)) for row in range(rows)]


def core_lines(shares: tuple[float, ...], width: int, colour: Color) -> list[Strip]:
    """A block for each core, as high as it is busy; with the figures where two lines hold them all."""
    label = _label_width(width)
    room = max(1, width - label)
    blocks = [_CORE_LEVELS[round(share * (len(_CORE_LEVELS) - 1))] for share in shares]
    cells = [f"{block}{100 * share:>4.0f}%" for block, share in zip(blocks, shares, strict=True)]
    between, columns = "  ", max(1, (room + 2) // 8)
    if columns * 2 < len(cells):
        size = min(_GROUP, room)
        cells = ["".join(blocks[at : at + size]) for at in range(0, len(blocks), size)]
        between, columns = " ", (room + 1) // (size + 1)
    lines = []
    for at in range(0, len(cells), columns):
        name = Segment(f"{'' if at else 'cores':<{label}}"[:label], Style(bold=True))
        text = between.join(cells[at : at + columns])
        lines.append(Strip([name, Segment(text, Style(color=colour.rich_color))]))
    return lines
