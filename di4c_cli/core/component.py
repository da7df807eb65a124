"""Components found by name: `kind = "masked"` in a recipe is the file `processes/masked.py`.

A file of a component folder holds one `Config`, a value object with a `build` method; a new file is a new
kind, and nothing else changes.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

CORE = "di4c_cli.core"


class Config(BaseModel):
    """A section of a recipe: frozen, strict about its keys, documented by its attributes."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,  # TOML has them, the JSON of a checkpoint's header has not
    )

    @property
    def kind(self) -> str:
        """The name a recipe uses: the name of the file that defines this class."""
        return type(self).__module__.rpartition(".")[2]


def _distinct(values: list[Any]) -> list[Any]:
    twice = next((value for number, value in enumerate(values) if value in values[:number]), None)
    if twice is not None:
        raise PydanticCustomError("twice", "holds {value} more than once", {"value": twice})
    return values


Distinct = AfterValidator(_distinct)
"""Marks a list whose entries differ: what is drawn twice alike would count as two independent draws."""


def installed(package: str) -> bool:
    """Whether a package is there, found out without importing it."""
    return importlib.util.find_spec(package) is not None


def kinds(folder: str) -> list[str]:
    """The kinds of a component folder, by file name; none of them is imported."""
    package = importlib.import_module(f"{CORE}.{folder}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def config_class(folder: str, kind: object) -> type[Config]:
    """The `Config` of one kind; imports that file only.

    Raises:
        PydanticCustomError: unknown kind, with the known ones and the nearest.
    """
    known = kinds(folder)
    if kind not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        guess = f". Did you mean '{near[0]}'?" if near else ""
        raise PydanticCustomError(
            "unknown_kind", "unknown kind '{kind}'; expected one of {known}{guess}",
            {"kind": str(kind), "known": ", ".join(known), "guess": guess},
        )  # fmt: skip
    return importlib.import_module(f"{CORE}.{folder}.{kind}").Config


def _validated(folder: str, value: Any) -> Any:
    if isinstance(value, Config):
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("section", "expected a table with a `kind`")
    rest = dict(value)
    kind = rest.pop("kind", None)
    if kind is None:
        raise PydanticCustomError(
            "missing_kind", "`kind` is missing; expected one of {known}", {"known": ", ".join(kinds(folder))}
        )
    try:
        cls = config_class(folder, kind)
    except PydanticCustomError as error:  # point at the key `kind`, not at the section
        detail = InitErrorDetails(type=error, loc=("kind",), input=kind)
        raise ValidationError.from_exception_data(folder, [detail]) from None
    return cls.model_validate(rest)


def dump(config: Config) -> dict[str, Any]:
    """A section as plain data, `kind` first."""
    return {"kind": config.kind, **{k: _plain(v) for k, v in config}}


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        inner = {k: _plain(v) for k, v in value}
        return {"kind": value.kind, **inner} if _is_kind(value) else inner
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _is_kind(config: Config) -> bool:
    """Whether the class is the `Config` of a file in a component folder (and not a fixed section)."""
    module = type(config).__module__
    return type(config).__name__ == "Config" and module.startswith(CORE) and module.count(".") == 3


class SectionOf:
    """Marks a field as a section of a component folder (read by the JSON schema)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder


def section(folder: str) -> Any:
    """The type of a field that takes any kind of that folder, found by its `kind` key."""
    return Annotated[
        SerializeAsAny[Config], BeforeValidator(lambda value: _validated(folder, value)), SectionOf(folder)
    ]
