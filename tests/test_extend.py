"""A new loss, process, sampler, network, data set or metric is one new file and a line of a recipe."""

import shutil
from pathlib import Path

import pytest
from program import Program

import di4c_cli
from di4c_cli import shipped

PACKAGE = Path(di4c_cli.__file__).parent

EXTENSIONS = Path(__file__).with_name("extensions")
"""One new file for each of six folders, and a recipe that uses them all."""
NEW_FILES = sorted(path.relative_to(EXTENSIONS) for path in EXTENSIONS.glob("*/*.py"))
RECIPE = (EXTENSIONS / "everything_new.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as a wheel installs it, recipes and teacher inside, and the new files dropped in."""
    site = tmp_path_factory.mktemp("site")
    package = shutil.copytree(
        PACKAGE, site / "di4c_cli", ignore=shutil.ignore_patterns("__pycache__", "_shipped")
    )
    shutil.copytree(shipped.recipe_paths()["digits"].parent, package / "_shipped/recipes")
    shutil.copytree(shipped.shipped_teacher("digits"), package / "_shipped/checkpoints/digits/teacher")
    for name in NEW_FILES:
        assert not (package / "core" / name).exists()
        shutil.copy(EXTENSIONS / name, package / "core" / name)
    return site


@pytest.fixture
def program(tmp_path):
    (tmp_path / "new.toml").write_text(RECIPE, encoding="utf-8")
    return Program(tmp_path)


def test_new_files_are_used_by_their_names(program, installed):
    where = {"PYTHONPATH": str(installed)}
    result = program.cold("distill", "new.toml", "--json", **where)
    assert result.code == 0, result.err
    final = result.json["final"]
    assert {"loss/entropy_gap", "loss/marginal", "loss/datapoint", "loss/consistency"} <= final.keys()
    rows = {(row["model"], row["steps"]): row["metrics"] for row in result.json["evaluation"]["rows"]}
    assert result.json["evaluation"]["directions"] == {"agreement": "higher", "tv": "lower"}
    assert result.json["evaluation"]["judges"] == {"agreement": "a vote of 4 positions"}
    assert all("agreement" in row["intervals"] for row in result.json["evaluation"]["rows"])
    # The product teacher draws four independent bits: all agree once in eight times.
    assert rows["teacher", 1]["agreement"] == pytest.approx(1 / 8, abs=0.03)
    assert rows["student", 1]["agreement"] > 0.5
    assert rows["student", 1]["tv"] < 0.5 * rows["teacher", 1]["tv"]

    drawn = program.cold("sample", "latest", "--steps", 2, "--num", 3, "--out", "x.txt", **where)
    assert drawn.code == 0, drawn.err
    assert len((program.home / "x.txt").read_text(encoding="utf-8").splitlines()) == 3


def test_new_kinds_are_checked_and_suggested_like_all_others(program, installed):
    where = {"PYTHONPATH": str(installed)}
    told = program.cold("recipes", "check", "new.toml", "digits", **where)
    assert (told.code, told.out) == (0, "new.toml: ok\ndigits: ok\n")
    text = RECIPE.replace("late_masked", "late_maskd").replace("hidden = 24", "hiden = 24")
    (program.home / "new.toml").write_text(text, encoding="utf-8")
    told = program.cold("recipes", "check", "new.toml", **where)
    assert told.code == 2
    assert "Did you mean 'late_masked'?" in told.complaint[0]
    assert "network.hiden: unknown key of kind 'table'. Did you mean 'hidden'?" in told.complaint[1]


def test_without_the_files_the_names_are_unknown(program):
    """The control: the recipe does not pass by accident."""
    complaint = program("recipes", "check", "new.toml").complaint
    for file in NEW_FILES:
        assert any(f"unknown kind '{file.stem}'" in line for line in complaint)


def test_the_installed_program_brings_its_teacher(program, installed):
    """No clone beside it: recipes and checkpoint come from inside the package."""
    told = program.cold("sample", "digits", "--num", 2, "--json", PYTHONPATH=str(installed))
    assert told.code == 0, told.err
    assert told.json["source"] == str(installed / "di4c_cli/_shipped/checkpoints/digits/teacher")
