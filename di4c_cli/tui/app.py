"""The monitor application: screens over run directories, keys that hold everywhere."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.notifications import SeverityLevel
from textual.screen import Screen

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.screens.compare import CompareScreen
from di4c_cli.tui.screens.help import HelpScreen
from di4c_cli.tui.screens.new_run import NewRunScreen
from di4c_cli.tui.screens.run import RunScreen
from di4c_cli.tui.screens.runs import RunsScreen
from di4c_cli.tui.screens.stop_run import StopRunScreen
from di4c_cli.tui.settings import Settings, settings_path
from di4c_cli.tui.tail import RunsTail
from di4c_cli.tui.widgets import Colours

_PULSE = 2.0  # seconds between looks whether the terminal is still there


class MonitorApp(App[None]):
    """Looks at runs and never writes into them.

    root: the folder with all runs. chosen: one run is opened at once, several are compared; without any the
    newest is opened, or the first that appears. plain: pictures and curves that read without colours.
    pictures: the ways besides half blocks in which this terminal can show pictures.
    """

    TITLE = "di4c monitor"
    CSS_PATH = "di4c.tcss"
    HORIZONTAL_BREAKPOINTS: ClassVar = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS: ClassVar = [(0, "-tiny"), (12, "-short"), (30, "-tall")]
    BINDINGS: ClassVar = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("h,question_mark,f1", "help", "Help"),
        Binding("n", "new_run", "New run", show=False),
    ]

    def __init__(
        self,
        root: Path,
        chosen: tuple[RunDirectory, ...] = (),
        plain: bool = False,
        settings: Settings | None = None,
        pictures: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.animation_level = "none"  # over ssh every frame costs
        self.root, self.chosen = root, chosen
        self.plain = plain or self.no_color
        self.remembers = settings is None
        self.settings = settings or Settings.load(settings_path())
        self.pictures = ("blocks", *pictures)
        self.colours = Colours()
        self.scratch = tempfile.TemporaryDirectory(prefix="di4c-monitor-")
        """For samples that are drawn on request; gone when the monitor is."""

    def on_mount(self) -> None:
        if self.settings.theme in self.available_themes:
            self.theme = self.settings.theme
        self.push_screen(RunsScreen(RunsTail(self.root), self.colours, open_first=not self.chosen))
        if len(self.chosen) == 1:
            self.open_run(self.chosen[0])
        elif self.chosen:
            self.compare(self.chosen)
        if not self.is_headless:
            self.set_interval(_PULSE, self._leave_with_the_terminal)
            for number in (signal.SIGTERM, signal.SIGHUP):  # the terminal is left as it was found
                asyncio.get_running_loop().add_signal_handler(number, self.exit)

    def _leave_with_the_terminal(self) -> None:
        """A terminal that is gone gives nothing but ends of file, and Textual would read them for ever."""
        if not sys.__stdin__.isatty():
            self.exit(return_code=1)

    def on_unmount(self) -> None:
        self.settings.theme = self.theme
        if self.remembers:
            self.settings.save(settings_path())
        self.scratch.cleanup()

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """What is told holds names and complaints from outside, so it is never taken for markup."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    # -- screens -----------------------------------------------------------------------------

    def open_run(self, run: RunDirectory) -> None:
        self.push_screen(RunScreen(run, self.settings, self.plain))

    def compare(self, runs: tuple[RunDirectory, ...]) -> None:
        self.push_screen(CompareScreen(runs, self.settings, self.colours, self.plain))

    def stop_run(self, run: RunDirectory) -> None:
        """Ask, then have it stop; it saves first."""

        def done(stopped: bool | None) -> None:
            if stopped:
                self.notify(f"{run.name} was told to stop; it saves first", timeout=4)

        self.push_screen(StopRunScreen(run), done)

    def action_new_run(self) -> None:
        def started(run: RunDirectory | None) -> None:
            if run is not None:
                self.open_run(run)

        self.push_screen(NewRunScreen(self.root), started)

    def action_help(self) -> None:
        bindings = [active.binding for active in self.screen.active_bindings.values()]
        self.push_screen(HelpScreen(bindings))

    def get_system_commands(self, screen: Screen) -> Iterable[SystemCommand]:
        """What the keys do, by name: the palette and the help read the same bindings."""
        yield from super().get_system_commands(screen)
        told = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and binding.action not in told and binding.action != "command_palette":
                told.add(binding.action)
                key = self.get_key_display(binding)
                yield SystemCommand(binding.description, f"key {key}", self._doing(binding.action))

    def _doing(self, action: str):
        async def do() -> None:
            namespace = self if action.startswith("app.") else self.screen
            await self.run_action(action.removeprefix("app."), namespace)

        return do
