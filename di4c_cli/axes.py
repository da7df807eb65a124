"""The sides of a matrix, as `--over` says them, and the combinations that they make."""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from di4c_cli import recipe_file
from di4c_cli.errors import UsageError

NOT_OF_THE_TEACHER = ("title", "student", "losses", "times", "train", "hand_over", "teacher_sampler")
NOT_OF_THE_TEACHER += ("sampler", "guidance", "sample", "preview", "eval", "metrics")
"""Sections of a recipe that its teacher does not depend on."""

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|.', re.DOTALL)
_NAMED = re.compile(r"([^=\"'{\[]+): (.*)", re.DOTALL)
_OVERRIDE = re.compile(r"[A-Za-z_][\w.-]*=")


@dataclass(frozen=True)
class Setting:
    """One value of an axis: overrides that go together, and what they are called."""

    label: str
    overrides: tuple[str, ...]

    @property
    def keys(self) -> set[str]:
        return {override.partition("=")[0] for override in self.overrides}

    @property
    def slug(self) -> str:
        """Its label as part of a run's name."""
        return re.sub(r"[^A-Za-z0-9.]+", "_", self.label).strip("_.")


NONE = Setting("-", ())
"""In place of a setting that another one overrules."""


@dataclass(frozen=True)
class Axis:
    """What varies along one side of a matrix."""

    name: str
    """The key that it begins with."""
    settings: tuple[Setting, ...]

    @property
    def of_the_teacher(self) -> bool:
        """Whether a teacher differs along it."""
        keys = {key for setting in self.settings for key in setting.keys}
        return any(key.partition(".")[0] not in NOT_OF_THE_TEACHER for key in keys)


def axis(text: str) -> Axis:
    """`KEY=A,B,C`; or `KEY=A OTHER=1; KEY=B OTHER=2`, overrides that go together; `NAME: ...` names one.

    Commas, semicolons and blanks within quotes and brackets are part of a value.

    Raises:
        UsageError: none of that.
    """
    parts = split(text, ";")
    values = parts if len(parts) > 1 else split(text, ",")
    named, key = list[tuple[str, list[str]]](), ""
    for value in values:
        match = _NAMED.fullmatch(value.strip())
        label, rest = (match[1].strip(), match[2]) if match else ("", value)
        overrides = [part for part in split(rest, " \t\n") if part]
        if not overrides:
            raise UsageError(f"--over {text}: an empty value", "as in --over network.width=64,128")
        if key and not _OVERRIDE.match(overrides[0]):
            overrides[0] = f"{key}={overrides[0]}"
        key = overrides[0].partition("=")[0]
        named.append((label, overrides))
    settings = _labelled(named, _kind)
    if len({setting.slug for setting in settings}) < len(settings):
        settings = _labelled(named, lambda value: None)
    if len({setting.slug for setting in settings}) < len(settings):
        raise UsageError(f"--over {text}: two values of one name", "name them: 'NAME: KEY=VALUE; ...'")
    return Axis(named[0][1][0].partition("=")[0], settings)


def split(text: str, at: str) -> list[str]:
    """The text split at any of these characters, but for those within quotes or brackets."""
    depth, parts = 0, [""]
    for token in _TOKEN.findall(text):
        depth = max(0, depth + (token in ("(", "[", "{")) - (token in (")", "]", "}")))
        if depth == 0 and token in at:
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _labelled(
    named: Sequence[tuple[str, list[str]]], shown: Callable[[Any], str | None]
) -> tuple[Setting, ...]:
    """Settings by their names, else by their values; `shown` may know a shorter word for a value."""
    return tuple(
        Setting(
            label or " ".join(filter(None, (_word(override, shown) for override in overrides))),
            tuple(overrides),
        )
        for label, overrides in named
    )


def _word(override: str, shown: Callable[[Any], str | None]) -> str:
    """What an override adds to a label: nothing, where it unsets a key."""
    _, value = recipe_file.parse_override(override)
    text = override.partition("=")[2].strip("\"'")
    return "" if value is None else shown(value) or text


def _kind(value: Any) -> str | None:
    """A table goes by its kind."""
    return str(value["kind"]) if isinstance(value, dict) and "kind" in value else None


def combinations(axes: Sequence[Axis]) -> list[tuple[Setting, ...]]:
    """Every choice of one setting an axis, in order.

    Overrides are read from the first axis to the last. A setting whose every key a later one sets again, or
    unsets, makes no difference: NONE stands in its place, and combinations that are then alike are one.
    """
    return list(dict.fromkeys(map(_settled, itertools.product(*(axis.settings for axis in axes)))))


def _settled(chosen: Sequence[Setting]) -> tuple[Setting, ...]:
    later = [set[str]().union(*(other.keys for other in chosen[i + 1 :])) for i in range(len(chosen))]
    return tuple(
        NONE if setting.keys <= others else setting for setting, others in zip(chosen, later, strict=True)
    )
