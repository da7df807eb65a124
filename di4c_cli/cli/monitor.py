"""`di4c monitor`: the terminal viewer over run directories."""

import io
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from di4c_cli.cli import console
from di4c_cli.cli.runs import told
from di4c_cli.errors import UsageError
from di4c_cli.runs import ROLES, RunDirectory, runs_root

FRAME = (120, 40)  # columns and rows of --once where there is no terminal


def monitor(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Runs, or `latest`; several are compared; none: the newest."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the runs are ($DI4C_RUNS, else checkpoints).")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one frame as plain text and exit.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="With --once: the runs' facts in place of the frame.")
    ] = False,
) -> None:
    """Watch runs: curves, live samples, comparisons. Read-only; h tells the keys."""
    if json and not once:
        raise UsageError("monitor --json: goes with --once", "write --once --json")
    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("monitor: needs a terminal", "--once prints one frame as text")
    folder = root or runs_root()
    runs = tuple(_resolve(text, folder, wait=not once) for text in run or ())
    chosen = runs or tuple(RunDirectory.find_all(folder)[-1:])
    if json:
        console.print_json([told(found) for found in chosen])
        return

    from di4c_cli.tui.app import MonitorApp
    from di4c_cli.tui.settings import Settings

    if once:
        app = MonitorApp(folder, chosen, plain=True, settings=Settings())
    else:
        from di4c_cli.tui import pixels

        app = MonitorApp(folder, chosen, pictures=pixels.available())
    if not once:
        app.run()
        return
    from di4c_cli.tui.frame import one_frame

    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe in an old code page has no braille
        sys.stdout.reconfigure(errors="replace")
    print(one_frame(app, shutil.get_terminal_size(FRAME)))


def _resolve(text: str, root: Path, wait: bool) -> RunDirectory:
    """The run behind an argument. With `wait`, a well-named run that is still to come counts as well.

    Raises:
        UsageError: there is no such run.
    """
    try:
        return RunDirectory(RunDirectory.resolve(text, root).path.absolute())
    except UsageError:
        to_come = re.fullmatch(rf"[^/]+/({'|'.join(ROLES)})-\d+", text)
        if wait and to_come:
            return RunDirectory((root / text).absolute())
        raise
