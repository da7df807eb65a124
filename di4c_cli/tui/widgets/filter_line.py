"""The line in which a list, a table or a log is filtered."""

from textual.actions import SkipAction
from textual.widget import Widget
from textual.widgets import Input


class FilterLine(Input):
    """Hidden until it is opened. Its owner listens to what is typed, and closes it on Escape."""

    DEFAULT_CSS = "FilterLine { height: 1; border: none; padding: 0; display: none; }"

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, compact=True)
        self.cursor_blink = False  # every frame costs

    def open(self) -> None:
        self.display = True
        self.focus()

    def clear_and_close(self, then: Widget) -> None:
        """Let everything be seen again, and focus `then`; a closed line leaves Escape to others."""
        if not self.display:
            raise SkipAction
        then.focus()
        self.value = ""
        self.display = False
