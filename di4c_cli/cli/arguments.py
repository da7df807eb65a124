"""Arguments and options that commands share, and how recipe overrides get past the option parser."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated

import typer
from typer.core import TyperCommand

from di4c_cli import shipped
from di4c_cli.errors import RecipeError, UsageError
from di4c_cli.runs import RunDirectory

_DOTTED_FLAG = re.compile(r"--?([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class RecipeCommand(TyperCommand):
    """A command that ends in `key=value` overrides."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            refuse_dotted_flags(args)
        return super().parse_args(ctx, args)


class TrainCommand(RecipeCommand):
    """A command with `--resume [RUN]`: without a run it becomes `--resume=`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        settled = list(args)
        for number, argument in enumerate(args):
            following = args[number + 1] if number + 1 < len(args) else ""
            if argument == "--resume" and not names_a_run(following):
                settled[number] = "--resume="
        return super().parse_args(ctx, settled)


def refuse_dotted_flags(args: list[str]) -> None:
    """`--train.steps 5` is not an option; say how it is written."""
    for argument, following in zip_longest(args, args[1:], fillvalue=""):
        match = _DOTTED_FLAG.fullmatch(argument)
        if match:
            separate = following if following and "=" not in following and following[0] != "-" else "..."
            given = f"{argument} {separate}" if match[2] is None and separate != "..." else argument
            spelling = f"{match[1]}={match[2] or separate}"
            raise UsageError(f"{given}: a recipe value is not an option", f"write {spelling}")


def names_a_run(text: str) -> bool:
    """Whether the word behind `--resume` is its RUN; a recipe or an override there belongs to the command."""
    if not text or text.startswith("-") or "=" in text:
        return False
    try:
        RunDirectory.resolve(text)
    except UsageError:
        pass
    else:
        return True
    try:
        shipped.find_recipe(text)
    except RecipeError:
        return True  # neither: let the run be reported as missing
    return False


def number_list(option: str, text: str | None, *, at_least: int) -> list[int] | None:
    """`1,2,4,8` as whole numbers."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: not a list of whole numbers", f"write {option} 1,2,4") from None
    if not at_least <= min(numbers) <= max(numbers) < 2**63:
        raise UsageError(f"{option} {text}: numbers begin at {at_least}, and end below 2^63")
    _refuse_twice(option, text, numbers)
    return numbers


def weight_list(option: str, text: str | None) -> list[float] | None:
    """`0,1,2.5` as numbers that are not negative."""
    if text is None:
        return None
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = [-1.0]
    if not all(0 <= weight < float("inf") for weight in weights):
        raise UsageError(f"{option} {text}: not a list of numbers from 0 on", f"write {option} 0,1,2.5")
    _refuse_twice(option, text, weights)
    return weights


def temperature_list(option: str, text: str | None) -> list[float] | None:
    """`0.8,1,1.2` as numbers above 0."""
    temperatures = weight_list(option, text)
    if temperatures and not all(temperatures):
        raise UsageError(f"{option} {text}: a temperature is above 0", "argmax tails are --final argmax")
    return temperatures


def choice_list(option: str, text: str | None, choices: Sequence[str]) -> list[str] | None:
    """`a,b` as words that are among the choices."""
    words = word_list(option, text)
    for word in words or []:
        if word not in choices:
            raise UsageError(f"{option} {word}: unknown", f"one or more of {', '.join(choices)}")
    return words


def word_list(option: str, text: str | None) -> list[str] | None:
    """`a,b` as words."""
    if text is None:
        return None
    words = [part.strip() for part in text.split(",") if part.strip()]
    _refuse_twice(option, text, words)
    return words


def _refuse_twice(option: str, text: str, values: Sequence[object]) -> None:
    """What is drawn twice alike, such as the same seed, would count as two independent draws."""
    value, times = Counter(values).most_common(1)[0] if values else (None, 0)
    if times > 1:
        raise UsageError(f"{option} {text}: {value} stands there {times} times", "once is enough")


def _checked_device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is none of auto, cpu, cuda, cuda:0, ..., mps.")
    return value


def _complete_recipe(incomplete: str) -> list[str]:
    return [name for name in shipped.recipe_paths() if name.startswith(incomplete)]


def _complete_run(incomplete: str) -> list[str]:
    names = ["latest", *(run.name for run in RunDirectory.find_all())]
    return [name for name in names if name.startswith(incomplete)]


def _complete_source(incomplete: str) -> list[str]:
    return _complete_run(incomplete) + _complete_recipe(incomplete)


_RECIPE_HELP = "A TOML file, or the name of a shipped recipe (`di4c recipes`)."

Recipe = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help=_RECIPE_HELP, show_default=False, autocompletion=_complete_recipe),
]
RecipeToTrain = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help=f"{_RECIPE_HELP} Not needed with `--resume RUN`.",
        show_default=False,
        autocompletion=_complete_recipe,
    ),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run directory, `<recipe>/<role>-<n>`, or `latest`.",
        show_default=False,
        autocompletion=_complete_run,
    ),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A run, a checkpoint folder, or a recipe (then: its newest finished student, else its teacher).",
        show_default=False,
        autocompletion=_complete_source,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Recipe values, as in `train.steps=200`; `KEY=null` unsets.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:N or mps.", callback=_checked_device, metavar="DEVICE"
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No narration on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="[RUN]",
        help="Continue a run; without RUN, the newest of this recipe.",
        show_default=False,
        autocompletion=_complete_run,
    ),
]
AllowDrift = Annotated[
    bool, typer.Option("--allow-drift", help="With --resume: train on with the values given now.")
]
Name = Annotated[
    str | None, typer.Option("--name", help="The run's name in place of <role>-<n>.", show_default=False)
]
Nproc = Annotated[int, typer.Option("--nproc", min=1, help="Processes, one for each device.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the recipe and its models, train nothing.")]
Monitor = Annotated[
    bool, typer.Option("--monitor", help="Watch it in the monitor; leaving that leaves the run alive.")
]
