"""The keys of the screen below, read from its bindings."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

_FRAME = 6  # rows and columns around the text
_GAP = 3


class HelpScreen(ModalScreen[None]):
    """An overlay; the keys that opened it, Esc and Enter close it."""

    BINDINGS: ClassVar = [Binding("escape,h,question_mark,f1,q,enter", "dismiss", "Close", show=False)]

    def __init__(self, bindings: list[Binding]) -> None:
        super().__init__()
        self.shown = bindings

    def compose(self) -> ComposeResult:
        box = VerticalScroll(Static(markup=False))
        box.border_title = "keys"
        box.border_subtitle = "esc closes"
        yield box

    def on_resize(self) -> None:
        self.query_one(Static).update(self._text())

    def _text(self) -> str:
        """One line per action: all its keys, then what it does; in two columns where one is too high."""
        keys: dict[str, list[str]] = {}
        for binding in self.shown:
            if binding.description:
                keys.setdefault(binding.description, []).append(self.app.get_key_display(binding))
        joined = {description: " ".join(dict.fromkeys(names)) for description, names in keys.items()}
        width = max(map(len, joined.values()), default=0)
        lines = [f"{names:>{width}}  {description}" for description, names in joined.items()]
        widest, half = max(map(len, lines), default=0), -(-len(lines) // 2)
        if len(lines) <= self.size.height - _FRAME or 2 * widest + _GAP > self.size.width - 2 * _FRAME:
            return "\n".join(lines)
        right = [*lines[half:], *[""] * (2 * half - len(lines))]
        pairs = zip(lines[:half], right, strict=True)
        return "\n".join(f"{left:<{widest + _GAP}}{line}".rstrip() for left, line in pairs)
