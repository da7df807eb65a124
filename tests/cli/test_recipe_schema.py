"""The JSON schema for editors, judged by a small validator of the keywords it uses."""

import tomllib
from typing import Any

import pytest

from di4c_cli import recipe_file, shipped


def is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """The keywords that decide about sections: references, alternatives, const, objects and lists."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "oneOf" in schema and sum(is_valid(value, option, root) for option in schema["oneOf"]) != 1:
        return False
    if "anyOf" in schema and not any(is_valid(value, option, root) for option in schema["anyOf"]):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    if (kind := schema.get("type")) in kinds and not isinstance(value, kinds[kind]):
        return False
    if kind in ("integer", "number") and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        if not set(schema.get("required", [])) <= value.keys():
            return False
        if schema.get("additionalProperties") is False and not value.keys() <= properties.keys():
            return False
        return all(
            is_valid(inner, properties[key], root) for key, inner in value.items() if key in properties
        )
    if isinstance(value, list) and "items" in schema:
        return all(is_valid(inner, schema["items"], root) for inner in value)
    return True


@pytest.fixture
def valid(good):
    schema = recipe_file.json_schema()
    text = good.read_text().replace("lr = 0.1", "lr = { peak = 0.1 }")
    return lambda old="", new="": is_valid(tomllib.loads(text.replace(old, new, 1)), schema, schema)


def test_a_good_recipe_is_valid(valid):
    assert valid()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "alpha"', 'kind = "gamma"'),
        ('kind = "alpha"\n', ""),
        ("rate = 2.0", "ratee = 2.0"),
        ("rate = 2.0", 'rate = "fast"'),
        ("rate = 2.0", "width = 2"),  # another kind's key
        ("width = 3", ""),
        ("width = 3", 'width = 3\ninner = { kind = "alpha", width = 1 }'),
        ("steps = 50", "stepz = 50"),
        ("[process]", "[proces]"),
    ],
)
def test_wrong_recipes_are_not(valid, old, new):
    assert not valid(old, new)


def test_sections_are_one_of_their_kinds_and_documented(schema):
    made = recipe_file.json_schema()
    recipe = made["$defs"][made["$ref"].removeprefix("#/$defs/")]
    names = [option["$ref"].removeprefix("#/$defs/") for option in recipe["properties"]["process"]["oneOf"]]
    assert [made["$defs"][name]["properties"]["kind"]["const"] for name in names] == ["alpha", "beta"]
    assert [made["$defs"][name]["title"] for name in names] == ["fakes: alpha", "fakes: beta"]


def test_the_schema_of_the_real_recipe_knows_every_shipped_section():
    made = recipe_file.json_schema()
    properties = made["$defs"][made["$ref"].removeprefix("#/$defs/")]["properties"]
    for name, path in shipped.recipe_paths().items():
        for key, section in tomllib.loads(path.read_text()).items():
            if isinstance(section, dict) and "kind" in section:
                options = properties[key].get("oneOf") or properties[key]["anyOf"][0]["oneOf"]
                definitions = [made["$defs"][option["$ref"].removeprefix("#/$defs/")] for option in options]
                fitting = [d for d in definitions if d["properties"]["kind"]["const"] == section["kind"]]
                assert len(fitting) == 1, f"{name}: {key}"
                assert section.keys() <= fitting[0]["properties"].keys()
