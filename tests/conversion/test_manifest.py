"""checkpoints/manifest.toml: what was released, and where."""

import tomllib
from pathlib import Path

import pytest
from released import KINDS

from di4c_cli import recipe_file
from di4c_cli.conversion._sources import HUB
from di4c_cli.shipped import recipe_paths

MANIFEST = Path(__file__).parents[2] / "checkpoints" / "manifest.toml"
RELEASED = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["checkpoint"]


def test_every_kind_was_released():
    assert {entry["kind"] for entry in RELEASED} == set(KINDS)
    assert len({entry["name"] for entry in RELEASED}) == len(RELEASED)


@pytest.mark.parametrize("entry", RELEASED, ids=lambda entry: entry["name"])
def test_entries_are_complete(entry):
    assert {"name", "kind", "path", "licence", "what"} <= entry.keys()
    assert entry.get("url", "https://").startswith("https://")
    assert ("url" in entry) != ("repository" in entry)
    assert len(entry.get("sha256", "0" * 64)) == 64
    if "repository" in entry:
        revision = f"@{entry['revision']}" if "revision" in entry else ""
        match = HUB.fullmatch(f"hf:{entry['repository']}/{entry['path']}{revision}")
        assert match.group("repository", "path", "revision") == (
            entry["repository"],
            entry["path"],
            entry.get("revision"),
        )


@pytest.mark.parametrize("recipe", ["cifar10", "imagenet", "owt", "sdtt"])
def test_recipes_name_what_was_released(recipe):
    loaded = recipe_file.load(recipe_paths()[recipe]).recipe
    names = {loaded.teacher.checkpoint, getattr(loaded.codec, "checkpoint", None)} - {None}
    assert names <= {entry["name"] for entry in RELEASED}
