"""The keys of the screen below, read from its bindings."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class HelpScreen(ModalScreen[None]):
    """An overlay; the keys that opened it, Esc and Enter close it."""

    BINDINGS: ClassVar = [Binding("escape,h,question_mark,q,enter", "dismiss", "Close", show=False)]

    def __init__(self, bindings: list[Binding]) -> None:
        super().__init__()
        self.shown = bindings

    def compose(self) -> ComposeResult:
        box = VerticalScroll(Static(self._text(), markup=False))
        box.border_title = "keys"
        box.border_subtitle = "esc closes"
        yield box

    def _text(self) -> str:
        """One line per action: all its keys, then what it does."""
        keys: dict[str, list[str]] = {}
        for binding in self.shown:
            if binding.description:
                keys.setdefault(binding.description, []).append(self.app.get_key_display(binding))
        joined = {description: " ".join(dict.fromkeys(names)) for description, names in keys.items()}
        width = max(map(len, joined.values()), default=0)
        return "\n".join(f"{names:>{width}}  {description}" for description, names in joined.items())
