"""`parity = true`: a recipe's own list of the reference's defects, and nothing else."""

import pytest

from di4c_cli import recipe_file
from di4c_cli.errors import RecipeError
from di4c_cli.shipped import recipe_paths

TOY = recipe_paths()["toy"]


@pytest.fixture
def write(tmp_path):
    def written(extra, table):
        text = TOY.read_text()
        (tmp_path / "own.toml").write_text(f"{extra}\n{text}\n{table}")
        return tmp_path / "own.toml"

    return written


def test_defects_come_with_parity_alone(write):
    path = write("", '[defects]\n"student.num_latents" = 5\n"losses.0.weight" = 7.0')
    plain, parity = recipe_file.load(path), recipe_file.load(path, ["parity=true"])
    assert plain.recipe.student.num_latents != 5
    assert (parity.recipe.student.num_latents, parity.recipe.losses[0].weight.scale) == (5, 7.0)
    assert (plain.recipe.parity, parity.recipe.parity) == (False, True)
    assert parity.origins["student.num_latents"] == "override"


def test_the_file_may_switch_parity_on_and_the_command_line_off(write):
    path = write("parity = true", '[defects]\n"student.num_latents" = 5')
    assert recipe_file.load(path).recipe.student.num_latents == 5
    assert recipe_file.load(path, ["parity=false"]).recipe.student.num_latents != 5
    # what is said outright is stronger
    assert recipe_file.load(path, ["student.num_latents=6"]).recipe.student.num_latents == 6


def test_a_resolved_recipe_keeps_what_was_overridden(write):
    path = write("parity = true", '[defects]\n"student.num_latents" = 5')
    resolved = recipe_file.resolved(recipe_file.load(path, ["student.num_latents=6"]))
    assert recipe_file.from_resolved(resolved).student.num_latents == 6


def test_a_defect_that_is_no_key_is_told(write):
    path = write("parity = true", '[defects]\n"student.num_latentz" = 5')
    with pytest.raises(RecipeError, match="num_latentz"):
        recipe_file.load(path)


def test_every_recipe_is_a_recipe_with_its_defects():
    changed = []
    for name, path in recipe_paths().items():
        plain, parity = (recipe_file.load(path, [f"parity={value}"]) for value in ("false", "true"))
        changed += [name] if plain.recipe.model_copy(update={"parity": True}) != parity.recipe else []
        assert bool(plain.recipe.defects) == (name in changed)
    assert set(changed) >= {"cifar10", "imagenet", "owt", "owt_round2", "sdtt"}


def test_guidance_without_classes_is_refused():
    with pytest.raises(RecipeError, match="guidance needs models that are told classes"):
        recipe_file.load(TOY, ["guidance.scale=1.0"])
    assert recipe_file.load(TOY, ["guidance.scale=1.0", "classes=3"]).recipe.guidance.scale == 1
