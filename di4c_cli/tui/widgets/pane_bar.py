"""Which panes there are, the digits that open and close them, and which are open."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.strip import Strip

from di4c_cli.tui.widgets import LineWidget


class PaneBar(LineWidget):
    """One line: `1 charts  2 samples  3 evaluation ...`; a click does what the digit does."""

    DEFAULT_CSS = "PaneBar { height: 1; padding: 0 1; background: $panel; }"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.open: frozenset[str] = frozenset()
        self.note = ""

    def show(self, open_panes: Sequence[str], note: str = "") -> None:
        """`note`: what else the line tells, at its right end."""
        if (self.open, self.note) != (frozenset(open_panes), note):
            self.open, self.note = frozenset(open_panes), note
            self.redraw()

    def _parts(self) -> list[str]:
        full = [f" {digit} {name} " for digit, name in enumerate(self.names, 1)]
        if sum(map(len, full)) <= self.content_size.width:
            return full
        return [f" {digit} " for digit, _ in enumerate(self.names, 1)]

    def draw(self) -> list[Strip]:
        segments = [
            Segment(part, Style(reverse=True, bold=True) if name in self.open else Style())
            for name, part in zip(self.names, self._parts(), strict=True)
        ]
        room = self.content_size.width - sum(segment.cell_length for segment in segments)
        if len(self.note) < room:
            segments.append(Segment(f"{self.note:>{room}}", Style(dim=True)))
        return [Strip(segments)]

    async def on_click(self, event: events.Click) -> None:
        offset, end = event.get_content_offset(self), 0
        for digit, part in enumerate(self._parts(), 1):
            end += len(part)
            if offset is not None and end - len(part) <= offset.x < end:
                await self.screen.run_action(f"pane({digit})")
