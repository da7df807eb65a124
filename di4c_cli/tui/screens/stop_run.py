"""Stopping a run, confirmed: it saves first, and can be resumed."""

import asyncio
import os
import signal
import socket
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Button, Static

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.messages import RunFacts
from di4c_cli.tui.screens.dialog import DialogScreen
from di4c_cli.tui.tail import read_facts


def can_stop(facts: RunFacts) -> str:
    """Why a run cannot be stopped from here; "" if it can."""
    if facts.state not in ("running", "stale"):
        return f"it is not running: {facts.state}"
    if facts.pid <= 1:  # a signal to 0 would reach the monitor itself
        return "status.json does not tell its process"
    if facts.host != socket.gethostname():
        return f"it runs on {facts.host or 'an unknown host'}; type there: kill {facts.pid}"
    if facts.state == "stale":
        return f"its process {facts.pid} is gone or hangs; if it hangs, type: kill {facts.pid}"
    return ""


def stop(run: RunDirectory) -> str:
    """Ask a run's process to save and end; why that cannot be, or ""."""
    facts = read_facts(run, {})
    if reason := can_stop(facts):
        return reason
    try:
        os.kill(facts.pid, signal.SIGTERM)
    except ProcessLookupError:
        return f"its process {facts.pid} is gone"
    except PermissionError:
        return f"its process {facts.pid} is another user's"
    return ""


class StopRunScreen(DialogScreen[bool]):
    """Asks before it stops `run`; gives True back once the signal is sent. Enter presses what is in focus."""

    DEFAULT_CSS = """
    StopRunScreen #question { height: auto; }
    """
    BINDINGS: ClassVar = [
        Binding("y", "stop", "Stop it"),
        Binding("n", "leave", "Leave it"),
        Binding("right", "move(1)", "Next button", show=False),
        Binding("left", "move(-1)", "Previous button", show=False),
    ]
    AUTO_FOCUS = "#leave"
    heading = "stop a run"
    keys = "y stops · n, esc leave it"

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.run = run

    def form(self) -> ComposeResult:
        yield Static(f"Stop {self.run.name}?", id="question", markup=False)
        with Horizontal(id="buttons", classes="row"):
            yield Button("Leave", id="leave", compact=True)
            yield Button("Stop", id="stop", variant="error", compact=True)

    def on_mount(self) -> None:
        self.run_worker(self._ask())

    async def _ask(self) -> None:
        facts = await asyncio.to_thread(read_facts, self.run, {})
        if reason := can_stop(facts):
            self._cannot(reason)
            return
        step = f"{facts.step:,} of {facts.steps:,}" if facts.steps else f"{facts.step:,}"
        question = f"Stop {self.run.name} at step {step}? It saves a resumable checkpoint first."
        self.query_one("#question", Static).update(question)

    def _cannot(self, reason: str) -> None:
        self.query_one("#question", Static).update(f"{self.run.name} cannot be stopped here.")
        self.query_one("#box").border_subtitle = "esc leaves it"
        self.query_one("#stop").disabled = True
        self.query_one("#leave").focus()
        self.tell(reason, wrong=True)

    # -- answers -----------------------------------------------------------------------------

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.action_stop() if event.button.id == "stop" else self.action_leave()

    def action_leave(self) -> None:
        self.dismiss(False)

    def action_stop(self) -> None:
        self.run_worker(self._stop(), exclusive=True)

    async def _stop(self) -> None:
        """What was asked about may have changed meanwhile: `stop` looks again."""
        if reason := await asyncio.to_thread(stop, self.run):
            self._cannot(reason)
        else:
            self.dismiss(True)
