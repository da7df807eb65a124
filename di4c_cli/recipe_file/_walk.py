"""Which Config classes, kinds and defaults a place of a recipe can have: the way from a key to its schema."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from di4c_cli.core.component import Config, SectionOf, config_class, dump
from di4c_cli.recipe_file._lines import Key

_NOTHING = object()


@dataclass
class Slot:
    """What a field can hold, as far as sections are concerned."""

    models: list[type[BaseModel]] = field(default_factory=list)
    """Fixed sections."""
    folders: list[str] = field(default_factory=list)
    """Component folders: sections that are found by their `kind`."""
    item: "Slot | None" = None
    """What the entries of a list can hold; None where no list fits."""


def slot_of(annotation: Any, metadata: Sequence[Any] = ()) -> Slot:
    """Read an annotation: `list[LossSection]`, `NetworkSection | None`, `Course | float`, ..."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    folders = [mark.folder for mark in metadata if isinstance(mark, SectionOf)]
    if folders:
        return Slot(folders=folders)
    if origin is Annotated:
        return slot_of(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        slots = [slot_of(argument) for argument in arguments]
        return Slot(
            models=[model for slot in slots for model in slot.models],
            folders=[folder for slot in slots for folder in slot.folders],
            item=next((slot.item for slot in slots if slot.item), None),
        )
    if origin is list:
        return Slot(item=slot_of(arguments[0]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Slot(models=[annotation])
    return Slot()


def field_slot(info: FieldInfo) -> Slot:
    return slot_of(info.annotation, info.metadata)


def fields_at(model: type[BaseModel], values: Any, key: Key) -> dict[str, FieldInfo | None]:
    """The keys that the table at `key` can have, {} where nothing is known; `kind` comes without a field."""
    fields: dict[str, FieldInfo | None] = {}
    for slot, table in _slots(model, values, key):
        if slot.folders:
            fields["kind"] = None
        for candidate in _models(slot, table):
            fields |= candidate.model_fields
    return fields


def list_at(model: type[BaseModel], values: Any, key: Key) -> list[Any] | None:
    """The default of a list field as plain data, [] without a default; None where no list fits."""
    info = _field_at(model, values, key)
    item = field_slot(info).item if info else None
    if info is None or item is None:
        return None
    default = info.get_default(call_default_factory=True, validated_data={})
    return [_plain(entry, item) for entry in default] if isinstance(default, list) else []


def takes_null(model: type[BaseModel], values: Any, key: Key) -> bool:
    """Whether None is a value of the field, and not only the lack of one."""
    info = _field_at(model, values, key)
    return info is not None and NoneType in get_args(info.annotation)


def _field_at(model: type[BaseModel], values: Any, key: Key) -> FieldInfo | None:
    return fields_at(model, values, key[:-1]).get(str(key[-1]))


def _plain(entry: Any, slot: Slot) -> Any:
    if not isinstance(entry, Config):
        return entry
    section = dump(entry)
    return section if slot.folders else {key: value for key, value in section.items() if key != "kind"}


def _slots(model: type[BaseModel], values: Any, key: Key) -> Iterator[tuple[Slot, Any]]:
    slots = [Slot(models=[model])]
    for part in key:
        if isinstance(part, int):
            slots = [slot.item for slot in slots if slot.item]
        else:
            infos = [m.model_fields.get(part) for slot in slots for m in _models(slot, values)]
            slots = [field_slot(info) for info in infos if info is not None]
        values = child(values, part)
    for slot in slots:
        yield slot, values


def child(values: Any, part: Any, default: Any = None) -> Any:
    """One step down in plain data, or `default` where there is nothing."""
    if isinstance(values, dict):
        return values.get(part, default)
    if isinstance(values, list) and isinstance(part, int) and part < len(values):
        return values[part]
    return default


def contains(values: Any, key: Key) -> bool:
    """Whether plain data has something at a key, if only a null."""
    for part in key:
        values = child(values, part, _NOTHING)
    return values is not _NOTHING


def _models(slot: Slot, table: Any) -> list[type[BaseModel]]:
    """The classes that a table at this place may be checked against, given its `kind`."""
    found = list(slot.models)
    for folder in slot.folders:
        try:
            found.append(config_class(folder, child(table, "kind")))
        except PydanticCustomError:  # a kind that does not exist is reported where it stands
            continue
    return found
