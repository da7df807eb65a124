"""The program: its commands, each imported when it is needed, and what becomes of errors."""

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.main import get_command

from di4c_cli import __version__, launch
from di4c_cli.cli import console
from di4c_cli.errors import Di4CError, RunError, UsageError
from di4c_cli.files import DISK

COMMANDS = {
    "train-teacher": "train_teacher",
    "distill": "distill",
    "train-codec": "train_codec",
    "train-judge": "train_judge",
    "hand-over": "hand_over",
    "matrix": "matrix",
    "convert": "convert",
    "sample": "sample",
    "eval": "evaluate",
    "bench": "bench",
    "monitor": "monitor",
    "recipes": "recipes",
    "runs": "runs",
    "doctor": "doctor",
}
"""Command names and the modules of this folder: each has a Typer `app`, or a function of its own name."""

ArgumentError = typer.BadParameter.__mro__[1]
"""Typer's error for wrong arguments of any sort (it names only this kind of it publicly)."""


class Commands(TyperGroup):
    """The top level: lazy, and the one place where errors become a line and an exit code."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str):
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"di4c_cli.cli.{COMMANDS[cmd_name]}")
        command = get_command(
            module.app if hasattr(module, "app") else _single(vars(module)[COMMANDS[cmd_name]])
        )
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: typer.Context, args: list[str]):
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else "`di4c --help` lists the commands"
            raise UsageError(f"{args[0]}: no such command", hint)
        return super().resolve_command(ctx, args)

    def make_context(self, *args, **kwargs):
        with _told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: typer.Context):
        with _told():
            return super().invoke(ctx)


@contextmanager
def _told() -> Iterator[None]:
    """Errors that a user can cause become one line on stderr and an exit code; bugs keep their traceback."""
    try:
        yield
    except Di4CError as error:
        console.error(error)
        raise typer.Exit(error.exit_code) from None
    except ArgumentError as error:
        command = error.ctx.command_path if error.ctx else "di4c"
        message = " ".join(error.format_message().split())
        console.error(UsageError(f"{command}: {message}", f"see `{command} --help`"))
        raise typer.Exit(error.exit_code) from None


def _single(function: Callable[..., None]) -> typer.Typer:
    """A Typer of one plain command."""
    single = typer.Typer(add_completion=False)
    single.command()(function)
    return single


app = typer.Typer(cls=Commands, invoke_without_command=True, pretty_exceptions_show_locals=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"di4c {__version__}")
        raise typer.Exit


@app.callback()
def di4c(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Few-step sampling from discrete diffusion models.

    Distil a many-step teacher into a mixture student that keeps the correlations: `di4c distill digits`.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main() -> None:
    """Run the program; whoever reads stdout may leave early (`| head`), and where it goes may be full.

    Of several processes, the first alone has something to say there.
    """
    _open_what_is_closed()
    launch.stop_with_launcher()
    if launch.place()[0]:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, to the end
    try:
        try:
            app(prog_name="di4c")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, *DISK):
            raise
        if error.errno != errno.EPIPE:
            console.error(RunError(f"di4c: cannot write: {error.strerror}", "make room and try again"))
        # Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _open_what_is_closed() -> None:
    """Streams that were closed by who started the program (`>&-`) lead nowhere; Python has None for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, to the end
