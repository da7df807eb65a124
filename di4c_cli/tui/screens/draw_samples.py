"""What new samples to draw: steps, seed, number, and which models."""

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button, Input, Label

from di4c_cli.tui.drawing import DrawRequest
from di4c_cli.tui.screens.dialog import DialogScreen, OneOf

_MOST_SAMPLES = 256  # that a pane shows
_MOST_STEPS = 100_000

TEACHER = ("beside the student", "not drawn")


@dataclass(frozen=True)
class Field:
    """A whole number to type."""

    name: str
    label: str
    default: int
    least: int
    most: int
    unit: str = ""


class DrawSamplesScreen(DialogScreen[DrawRequest | None]):
    """Asks what to draw from a run of `role`; `steps` is what it offers at first."""

    DEFAULT_CSS = """
    DrawSamplesScreen {
        .row > Input { width: 20; }
        .row > .unit { width: 1fr; margin-left: 1; }
    }
    """
    AUTO_FOCUS = "#steps"
    heading = "draw new samples"
    keys = "enter draws · esc leaves"

    def __init__(self, role: str, steps: int) -> None:
        super().__init__()
        self.student = role != "teacher"
        self.fields = [
            Field("steps", "steps", steps, 1, _MOST_STEPS),
            Field("seed", "seed", 0, 0, 2**63 - 1),
            Field("num", "samples", 16, 1, _MOST_SAMPLES),
        ]
        if self.student:
            self.fields.append(
                Field("teacher_steps", "hybrid", 0, 0, _MOST_STEPS, "last steps by the teacher; 0: none")
            )

    def form(self) -> ComposeResult:
        for field in self.fields:
            with Horizontal(classes="row"):
                yield Label(field.label)
                yield Input(str(field.default), id=field.name, type="integer", compact=True)
                yield Label(field.unit, classes="unit")
        if self.student:
            with Horizontal(classes="row"):
                yield Label("teacher")
                yield OneOf(*TEACHER, id="teacher")
        with Horizontal(id="buttons", classes="row"):
            yield Button("Draw", id="draw", variant="primary", compact=True)

    def on_input_submitted(self) -> None:
        self.draw()

    def on_button_pressed(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Give the request back, or tell what is wrong with it."""
        numbers: dict[str, int] = {}
        for field in self.fields:
            most = min(field.most, numbers["steps"]) if field.name == "teacher_steps" else field.most
            value = self._number(field, most)
            if value is None:
                return
            numbers[field.name] = value
        beside = self.student and self.query_one("#teacher", OneOf).value == TEACHER[0]
        self.dismiss(DrawRequest(**numbers, teacher=beside))

    def _number(self, field: Field, most: int) -> int | None:
        typed = self.query_one(f"#{field.name}", Input)
        try:
            value = int(typed.value)
        except ValueError:
            value = field.least - 1
        if field.least <= value <= most:
            return value
        typed.focus()
        typed.action_select_all()
        self.tell(f"{field.label}: a whole number from {field.least} to {most}", wrong=True)
        return None
