"""Who may import whom: the contracts of pyproject.toml, and what they cannot say."""

import ast
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "di4c_cli"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, only_top: bool = False) -> set[str]:
    """Modules that a file imports, inside functions too unless `only_top`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if only_top else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def importers(package: str, **options: bool) -> set[str]:
    """Files of di4c_cli that import a package."""
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        if any(name == package or name.startswith(f"{package}.") for name in imports(path, **options))
    }


def test_layers(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True) == 0


def test_torchvision_comes_through_one_door():
    named = importers("torchvision") | {
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        if 'import_module("torchvision")' in path.read_text(encoding="utf-8")
    }
    assert named == {"core/_vision.py"}


def test_rich_has_one_user_in_the_cli():
    assert {name for name in importers("rich") if name.startswith("cli/")} == {"cli/console.py"}


@pytest.mark.parametrize("package", ["click", "lightning", "accelerate", "transformers"])
def test_not_our_dependencies(package):
    assert importers(package) == set()


@pytest.mark.parametrize("package", ["torch", "numpy", "textual", "di4c_cli.core", "di4c_cli.pipeline"])
def test_the_cli_starts_light(package):
    assert {name for name in importers(package, only_top=True) if name.startswith("cli/")} == set()


def test_annotations_stay_objects_where_shapes_are_checked():
    """jaxtyping reads annotations at run time; `from __future__ import annotations` would make them text."""
    assert {name for name in importers("__future__") if name.startswith("core/")} == set()
