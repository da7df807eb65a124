"""Starting a run from inside: pick a recipe, override its values, go. `di4c` itself does all checking."""

import asyncio
import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button, Input, Label, OptionList
from textual.widgets.option_list import Option

from di4c_cli import launch, shipped
from di4c_cli.runs import RunDirectory
from di4c_cli.tui.screens.dialog import DialogScreen, OneOf, printable

COMMANDS = ("distill", "train-teacher")
PERIOD = 0.25  # seconds between looks for the run
_LAST_LINES = 6  # of a complaint
_NO_RECIPE = "pyproject.toml"  # lies in many folders


@dataclass(frozen=True)
class Choice:
    """A recipe to pick: what `di4c` is told, and its title."""

    recipe: str
    title: str

    def matches(self, words: list[str]) -> bool:
        text = f"{self.recipe} {self.title}".lower()
        return all(word in text for word in words)


def recipe_choices() -> tuple[Choice, ...]:
    """The shipped recipes by name, then the user's own in this folder and in ./recipes by path."""
    known = shipped.recipe_paths()
    files = dict(known)
    inside = {path.resolve() for path in known.values()}
    for folder in (Path(), Path("recipes")):
        for path in sorted(folder.glob("*.toml")):
            if path.resolve() not in inside and path.name != _NO_RECIPE:
                files[str(path)] = path
    titles = {name: " ".join(shipped.read_title(path).split()) for name, path in files.items()}
    return tuple(Choice(name, printable(title)) for name, title in titles.items())


class NewRunScreen(DialogScreen[RunDirectory | None]):
    """Starts a run below `root` as a process of its own, and gives it back once its directory is there.

    Leaving while it starts leaves it running.
    """

    DEFAULT_CSS = """
    NewRunScreen {
        #recipes { height: auto; max-height: 8; text-wrap: nowrap; text-overflow: ellipsis; }
        &.-tiny #recipes { max-height: 2; }
        #filter { background: $panel; }
    }
    """
    AUTO_FOCUS = "#filter"
    heading = "start a run"
    keys = "enter goes on · esc leaves"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root.absolute()
        self._choices: tuple[Choice, ...] = ()

    def form(self) -> ComposeResult:
        yield Input(id="filter", placeholder="recipe: type to filter", compact=True)
        recipes = OptionList(id="recipes", compact=True)
        recipes.can_focus = False  # its keys are the filter's
        yield recipes
        with Horizontal(classes="row"):
            yield Label("command")
            yield OneOf(*COMMANDS, id="command")
        with Horizontal(classes="row"):
            yield Label("overrides")
            yield Input(
                id="overrides",
                placeholder="train.steps=200 train.seed=1",
                select_on_focus=False,  # what is wrong in it is to be corrected, not typed anew
                compact=True,
            )
        with Horizontal(id="buttons", classes="row"):
            yield Button("Start", id="start", variant="primary", compact=True)

    # -- picking -----------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.run_worker(self._list_recipes())

    async def _list_recipes(self) -> None:
        self._choices = await asyncio.to_thread(recipe_choices)
        self._fill()

    def _fill(self) -> None:
        """The recipes that match the filter; the first one is picked."""
        words = self.query_one("#filter", Input).value.lower().split()
        shown = [choice for choice in self._choices if choice.matches(words)]
        width = max((len(choice.recipe) for choice in shown), default=0)
        recipes = self.query_one("#recipes", OptionList)
        recipes.clear_options()
        for choice in shown:
            prompt = Text.assemble((f"{choice.recipe:<{width}}", "bold"), "  ", choice.title)
            recipes.add_option(Option(prompt, id=choice.recipe))
        recipes.highlighted = 0 if shown else None

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self._fill()

    def action_move(self, change: int) -> None:
        if self.focused is not self.query_one("#filter"):
            super().action_move(change)
            return
        recipes = self.query_one("#recipes", OptionList)
        recipes.action_cursor_down() if change > 0 else recipes.action_cursor_up()

    # -- going -------------------------------------------------------------------------------

    def on_option_list_option_selected(self) -> None:
        self.query_one("#overrides").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            self.query_one("#overrides").focus()
        else:
            self.start()

    def on_button_pressed(self) -> None:
        self.start()

    def start(self) -> None:
        """Start what the form says, unless it is under way."""
        form = self.query_one("#form")
        picked = self.query_one("#recipes", OptionList).highlighted_option
        if form.disabled:
            return
        if picked is None or picked.id is None:
            self.tell("no recipe is picked", wrong=True)
            return
        try:
            overrides = shlex.split(self.query_one("#overrides", Input).value)
        except ValueError as error:
            self.tell(f"overrides: {error}", wrong=True)
            return
        command = self.query_one("#command", OneOf).value
        form.disabled = True
        self.tell(f"starting: di4c {shlex.join([command, picked.id, *overrides])}\nesc leaves it running")
        self.run_worker(self._follow([command, "--quiet", picked.id, *overrides]))

    async def _follow(self, arguments: list[str]) -> None:
        """Start the command and wait for its run, or for what it has to complain about."""
        try:
            launched = await asyncio.to_thread(launch.start, launch.command(arguments), self.root)
        except OSError as error:
            self._failed(f"cannot start: {error}")
            return
        while True:
            code = launched.poll()
            run = await asyncio.to_thread(launched.run)
            if run is None and code is not None:
                told = launched.complaint().strip().splitlines()[-_LAST_LINES:]
                self._failed("\n".join(told) or f"it ended with code {code} and made no run")
                return
            if run is not None and self.is_current:  # else the command palette is open
                self.dismiss(run)
                return
            await asyncio.sleep(PERIOD)

    def _failed(self, complaint: str) -> None:
        self.query_one("#form").disabled = False
        self.query_one("#overrides").focus()
        self.tell(complaint, wrong=True)
