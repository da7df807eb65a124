"""What the dialogs have in common: a box over the screen below, a line for complaints, and the keys."""

from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widgets import Input, Static

Result = TypeVar("Result")


def printable(text: str) -> str:
    """Text that may reach the terminal: lines without control characters."""
    lines = ("".join(c if c.isprintable() else "·" for c in line) for line in text.splitlines())
    return "\n".join(lines)


class OneOf(Static, can_focus=True):
    """One of some words; left, right, space and a click change it."""

    DEFAULT_CSS = """
    OneOf { width: auto; height: 1; background: $panel; text-wrap: nowrap;
        &:focus { text-style: $button-focus-text-style; }
    }
    """
    BINDINGS: ClassVar = [
        Binding("right,space", "change(1)", "Next choice", show=False),
        Binding("left", "change(-1)", "Previous choice", show=False),
    ]
    index: reactive[int] = reactive(0, layout=True)

    def __init__(self, *words: str, id: str) -> None:
        super().__init__(id=id, markup=False)
        self.words = words

    @property
    def value(self) -> str:
        return self.words[self.index]

    def render(self) -> str:
        return f"‹ {self.value} ›"

    def action_change(self, change: int) -> None:
        self.index = (self.index + change) % len(self.words)

    def on_click(self) -> None:
        self.action_change(1)


class DialogScreen(ModalScreen[Result]):
    """A form in a box that scrolls where the terminal is too low for it; Esc leaves.

    Up and down walk through the fields, as Tab does.
    """

    DEFAULT_CSS = """
    DialogScreen { align: center middle;
        #box { width: 76; max-width: 100%; height: auto; max-height: 100%; padding: 0 1; overflow-y: auto;
            border: round $accent; background: $surface; scrollbar-size-vertical: 1; }
        #form { height: auto; }
        .row { height: 1; width: 1fr; margin-top: 1; }
        .row > Label { width: 11; color: $text-muted; }
        .row > Input { width: 1fr; background: $panel; }
        #buttons > Button { min-width: 5; margin-right: 1; }
        #message { height: auto; margin-top: 1; display: none; }
        &.-tiny #box { border: none; padding: 0; }
        &.-tiny .row, &.-tiny #message { margin-top: 0; }
        #message.-told { display: block; }
        #message.-wrong { color: $text-error; }
    }
    """
    VERTICAL_BREAKPOINTS: ClassVar = [(0, "-tiny"), (12, "-tall")]
    BINDINGS: ClassVar = [
        Binding("escape", "leave", "Leave"),
        Binding("down", "move(1)", "Next field", show=False),
        Binding("up", "move(-1)", "Previous field", show=False),
    ]
    heading = ""
    keys = "esc leaves"

    def compose(self) -> ComposeResult:
        with Container(id="box") as box:
            with Container(id="form"):
                yield from self.form()
            yield Static(id="message", markup=False)
        box.border_title = self.heading
        box.border_subtitle = self.keys

    def on_mount(self) -> None:
        for field in self.query(Input):
            field.cursor_blink = False  # every blink would be a repaint

    def form(self) -> ComposeResult:
        """The fields."""
        raise NotImplementedError

    def tell(self, text: str, wrong: bool = False) -> None:
        """Text below the fields; `wrong`: a complaint."""
        message = self.query_one("#message", Static)
        message.update(printable(text))
        message.set_class(bool(text), "-told")
        message.set_class(wrong, "-wrong")
        message.call_after_refresh(message.scroll_visible, animate=False)

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_move(self, change: int) -> None:
        self.focus_next() if change > 0 else self.focus_previous()
