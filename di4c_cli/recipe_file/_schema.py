"""The JSON schema of recipes, for editors: every section is one of its kinds."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticCustomError

from di4c_cli.core.component import Config, config_class, kinds
from di4c_cli.core.progress import remark
from di4c_cli.recipe_file._walk import Slot, field_slot

_DEFINITIONS = "#/$defs/"


def json_schema(root: type[BaseModel]) -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of a recipe, with all kinds of its component folders."""
    folders: dict[str, dict[str, type[Config]]] = {}
    models = _reachable(root, folders, {Config: None})
    references, schema = models_json_schema([(model, "validation") for model in models])
    definitions = schema["$defs"]
    names = {model: references[model, "validation"]["$ref"].removeprefix(_DEFINITIONS) for model in models}
    for model in models:
        for name, info in model.model_fields.items():
            options = [
                {"$ref": _DEFINITIONS + names[kind]}
                for folder in _folders(field_slot(info))
                for kind in folders[folder].values()
            ]
            if options:
                properties = definitions[names[model]]["properties"]
                properties[name] = _with_kinds(properties[name], _DEFINITIONS + names[Config], options)
    for folder, members in folders.items():
        for kind, model in members.items():
            definition = definitions[names[model]]
            definition["title"] = f"{folder}: {kind}"
            definition["properties"] = {"kind": {"const": kind}, **definition.get("properties", {})}
            definition["required"] = ["kind", *definition.get("required", [])]
    del definitions[names[Config]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": _DEFINITIONS + names[root],
        "$defs": definitions,
    }


def _reachable(
    model: type[BaseModel], folders: dict[str, dict[str, type[Config]]], found: dict[type[BaseModel], None]
) -> list[type[BaseModel]]:
    """`model` and every Config class below it, each once; `folders` collects the component folders."""
    if model in found:
        return list(found)
    found[model] = None
    for info in model.model_fields.values():
        slot: Slot | None = field_slot(info)
        for folder in _folders(slot):
            if folder not in folders:
                folders[folder] = _members(folder)
            for member in folders[folder].values():
                _reachable(member, folders, found)
        while slot:
            for member in slot.models:
                _reachable(member, folders, found)
            slot = slot.item
    return list(found)


def _members(folder: str) -> dict[str, type[Config]]:
    """The kinds of a component folder; one that cannot be imported is left out, with a remark."""
    found = {}
    for kind in kinds(folder):
        try:
            found[kind] = config_class(folder, kind)
        except PydanticCustomError as error:
            remark(f"left out of the schema: {error.message()}")
    return found


def _folders(slot: Slot | None) -> list[str]:
    """The component folders of a field, inside lists too."""
    return [*slot.folders, *_folders(slot.item)] if slot else []


def _with_kinds(schema: Any, base: str, options: list[dict[str, str]]) -> Any:
    """Pydantic knows a section as the bare base class; put the kinds in its place."""
    if isinstance(schema, list):
        return [_with_kinds(item, base, options) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("$ref") == base:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {**rest, "oneOf": options}
    return {key: _with_kinds(value, base, options) for key, value in schema.items()}
