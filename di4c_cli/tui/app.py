"""The monitor application: screens over run directories, keys that hold everywhere."""

from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.screens.help import HelpScreen
from di4c_cli.tui.screens.run import RunScreen
from di4c_cli.tui.screens.runs import RunsScreen
from di4c_cli.tui.tail import RunsTail


class MonitorApp(App[None]):
    """Looks at runs and never writes into them.

    root: the folder with all runs. only: list just these. first: the run to open at once; without one
    the first run that appears below the root is opened. plain: pictures that read without colours.
    """

    TITLE = "di4c monitor"
    CSS_PATH = "di4c.tcss"
    BINDINGS: ClassVar = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("h,question_mark", "help", "Help"),
    ]

    def __init__(
        self,
        root: Path,
        only: tuple[RunDirectory, ...] = (),
        first: RunDirectory | None = None,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.animation_level = "none"  # over ssh every frame costs
        self.root, self.only, self.first, self.plain = root, only, first, plain

    def on_mount(self) -> None:
        self.push_screen(
            RunsScreen(RunsTail(self.root, self.only), open_first=self.first is None and not self.only)
        )
        if self.first is not None:
            self.push_screen(RunScreen(self.first, self.plain))

    def action_help(self) -> None:
        bindings = [active.binding for active in self.screen.active_bindings.values()]
        self.push_screen(HelpScreen(bindings))
