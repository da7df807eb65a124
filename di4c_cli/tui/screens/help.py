"""The keys of the screen below, read from its bindings."""

from typing import ClassVar

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class HelpScreen(ModalScreen[None]):
    """An overlay; any of its keys closes it."""

    BINDINGS: ClassVar = [Binding("escape,h,question_mark,q,enter", "dismiss", "Close", show=False)]

    def __init__(self, bindings: list[Binding]) -> None:
        super().__init__()
        self._bindings_shown = bindings

    def compose(self) -> ComposeResult:
        box = VerticalScroll(Static(self._table()))
        box.border_title = "keys"
        box.border_subtitle = "esc closes"
        yield box

    def _table(self) -> Table:
        keys: dict[str, list[str]] = {}
        for binding in self._bindings_shown:
            if binding.description and not binding.system:
                keys.setdefault(binding.description, []).append(self.app.get_key_display(binding))
        table = Table.grid(padding=(0, 2))
        for description, names in keys.items():
            table.add_row(" ".join(dict.fromkeys(names)), description)
        return table
