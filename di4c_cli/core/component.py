"""Components found by name: `kind = "masked"` in a recipe is the file `processes/masked.py`.

A file of a component folder holds one `Config`, a value object with a `build` method; a new file is a new
kind, and nothing else changes.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    SerializeAsAny,
    ValidationError,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, PydanticKnownError, core_schema

CORE = "di4c_cli.core"


def _no_stand_in(error: Literal["int_type", "float_type"], value: Any) -> Any:
    if isinstance(value, bool | str):
        raise PydanticKnownError(error)
    return value


_NUMBERS = {"int": partial(_no_stand_in, "int_type"), "float": partial(_no_stand_in, "float_type")}


def _plain_numbers(schema: Any, section: Any) -> Any:
    """A pydantic schema in which neither a truth value nor a text passes for a number.

    Pydantic would read `steps = true` as one step. Its own strict mode also refuses 1e3 for 1000, and a list
    for a pair, as which TOML and JSON have them. Sections within this one have seen to it themselves.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(_plain_numbers(part, section) for part in schema)
    if not isinstance(schema, dict) or (schema.get("type") == "model" and schema["cls"] is not section):
        return schema
    if schema.get("type") in _NUMBERS:
        return core_schema.no_info_before_validator_function(_NUMBERS[schema["type"]], cast(Any, schema))
    return {
        key: value if key == "metadata" else _plain_numbers(value, section) for key, value in schema.items()
    }


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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        model = cast(dict[str, Any], handler.resolve_ref_schema(schema))
        model["schema"] = _plain_numbers(model["schema"], source)
        return schema


def number_as(key: str) -> Callable[[Any], Any]:
    """A validator of a section that a plain number stands for: the value of its key `key`."""

    def table(value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {key: value}
        if not isinstance(value, dict | Config):
            raise PydanticCustomError("number_or_table", "Input should be a number or a table")
        return value

    return table


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
        PydanticCustomError: unknown kind, with the known ones and the nearest; or a file that is no kind.
    """
    known = kinds(folder)
    if kind not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        guess = f". Did you mean '{near[0]}'?" if near else ""
        raise PydanticCustomError(
            "unknown_kind", "unknown kind '{kind}'; expected one of {known}{guess}",
            {"kind": str(kind), "known": ", ".join(known), "guess": guess},
        )  # fmt: skip
    name = f"{CORE}.{folder}.{kind}"
    try:
        found = getattr(importlib.import_module(name), "Config", None)
        told = "has no class Config"
    except Exception as error:  # a file that somebody is writing may fail in any way
        found, told = None, f"{type(error).__name__}: {error}".splitlines()[0]
    if not (isinstance(found, type) and issubclass(found, Config)):
        spec = importlib.util.find_spec(name)
        raise PydanticCustomError(
            "broken_kind", "kind '{kind}' cannot be used: {file}: {told}",
            {"kind": str(kind), "file": str(spec and spec.origin), "told": told},
        )  # fmt: skip
    return found


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
