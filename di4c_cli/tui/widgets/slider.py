"""A slider over a few values, on one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip

from di4c_cli.tui.widgets import LineWidget, inks

_MIN_RAIL = 5


class Slider(LineWidget, can_focus=True):
    """`label ├──●──┤ value`; left and right, wheel and click move it."""

    DEFAULT_CSS = "Slider { height: 1; }  Slider:focus { text-style: reverse; }"
    BINDINGS: ClassVar = [
        Binding("left", "move(-1)", "Slider back", show=False),
        Binding("right", "move(1)", "Slider on", show=False),
        Binding("home", "move(-1000000)", "Slider to its beginning", show=False),
        Binding("end", "move(1000000)", "Slider to its end", show=False),
    ]

    @dataclass
    class Moved(Message):
        """Somebody moved it."""

        slider: "Slider"
        index: int

        @property
        def control(self) -> "Slider":
            return self.slider

    def __init__(self, label: str, id: str) -> None:
        super().__init__(id=id)
        self.label = label
        self.values: tuple[str, ...] = ()
        self.index = 0
        self._rail = (0, 0)  # first column and length, since the last drawing

    def show(self, values: Sequence[str], index: int) -> None:
        """Set values and position without telling anybody."""
        if (self.values, self.index) != (tuple(values), index):
            self.values, self.index = tuple(values), index
            self.redraw()

    def action_move(self, change: int) -> None:
        self.move_to(self.index + change)

    def move_to(self, index: int) -> None:
        index = min(max(index, 0), len(self.values) - 1)
        if index != self.index and self.values:
            self.index = index
            self.redraw()
            self.post_message(self.Moved(self, index))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        start, length = self._rail
        offset = event.get_content_offset(self)
        if offset is not None and length > 1 and start <= offset.x < start + length:
            self.move_to(round((offset.x - start) / (length - 1) * (len(self.values) - 1)))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move_to(self.index + 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move_to(self.index - 1)

    def draw(self) -> list[Strip]:
        width = self.content_size.width
        if not self.values:
            return [Strip([Segment(f"{self.label}: none yet", Style(dim=True))])]
        widest = max(map(len, self.values))
        told = f"{self.values[self.index]:>{widest}}"
        count = f" {self.index + 1} of {len(self.values)}"
        length = width - len(self.label) - len(told) - len(count) - 3
        if length < _MIN_RAIL:
            self._rail = (0, 0)
            return [Strip([Segment(f"{self.label} {self.values[self.index]}{count}")])]
        self._rail = (len(self.label) + 1, length)
        at = round(self.index / max(len(self.values) - 1, 1) * (length - 1))
        faint, knob = Style(dim=True), Style(color=inks(self)[0].rich_color, bold=True)
        rail = [Segment("─" * at, faint), Segment("●", knob), Segment("─" * (length - at - 1), faint)]
        return [Strip([Segment(f"{self.label} "), *rail, Segment(f" {told}"), Segment(count, faint)])]
