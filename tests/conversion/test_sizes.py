"""Sizes: read from tensors, and at the released ones the shipped recipes."""

import pytest
import torch

from di4c_cli import recipe_file
from di4c_cli.conversion import KINDS
from di4c_cli.conversion._design import Tensors
from di4c_cli.conversion.names import NAMING
from di4c_cli.core.component import config_class
from di4c_cli.core.space import StateSpace
from di4c_cli.recipe import Recipe
from di4c_cli.shipped import recipe_paths

TEXT = StateSpace(shape=(1024,), num_states=50258, mask_id=50257)
CODES = StateSpace(shape=(1, 16, 16), num_states=1025, mask_id=1024, num_classes=1000)
PIXELS = StateSpace(shape=(3, 32, 32), num_states=256)
RELEASED = {
    "mdlm": ("owt", TEXT),
    "sdtt": ("owt", TEXT),
    "di4c-sdtt": ("owt", TEXT),
    "maskgit": ("imagenet", CODES),
    "di4c-maskgit": ("imagenet", CODES),
    "tauldr": ("cifar10", PIXELS),
    "di4c-tauldr": ("cifar10", PIXELS),
}


def designed(kind, space, tmp_path, stated=None, **sizes):
    """What is made of the tensors of such a network."""
    recipe = RELEASED[kind][0]
    network = config_class("networks", recipe_file.load(recipe_paths()[recipe]).recipe.network.kind)(**sizes)
    with torch.device("meta"):
        state = network.build(space, lam=KINDS[kind].student).state_dict()
    shapes = {NAMING[kind].theirs(name): tuple(p.shape) for name, p in state.items()}
    family = KINDS[kind].family
    settings = family.settings.model_validate(stated or {})
    return family.design(Tensors(tmp_path / "file", shapes), settings, KINDS[kind].student)


def recipe_of(design):
    return Recipe.model_validate(design.header["recipe"])


@pytest.mark.parametrize("kind", RELEASED)
def test_released_sizes_are_the_shipped_recipe(kind, tmp_path):
    """Nothing but tensors given: the recipe that the paper's system ships with, untouched."""
    name, space = RELEASED[kind]
    design = designed(kind, space, tmp_path)
    assert design.header["name"] == name
    assert design.header["role"] == ("student" if kind.startswith("di4c-") else "teacher")
    assert design.header["recipe"] == recipe_file.resolved(recipe_file.load(recipe_paths()[name]))["config"]
    assert (
        design.assumed
        == {
            "owt": {"length": 1024},
            "imagenet": {"codes": 1024, "classes": 1000, "heads": 16},
            "cifar10": {"shape": [3, 32, 32], "S": 256},
        }[name]
    )


def test_larger_images_have_a_larger_grid(tmp_path):
    space = StateSpace(shape=(1, 32, 32), num_states=1025, mask_id=1024, num_classes=1000)
    codec = recipe_of(designed("maskgit", space, tmp_path, {"heads": 16})).codec
    assert (codec.kind, codec.grid, codec.size, codec.checkpoint) == ("vqgan", 32, 512, "vqgan-imagenet")


@pytest.mark.parametrize(("width", "depth", "heads"), [(1024, 24, 16), (1536, 24, 16)])
def test_larger_texts_models(width, depth, heads, tmp_path):
    """SDTT's "md" and "large"."""
    recipe = recipe_of(designed("sdtt", TEXT, tmp_path, width=width, depth=depth, heads=heads))
    assert (recipe.network.width, recipe.network.depth, recipe.network.heads) == (width, depth, heads)
    assert recipe.codec.kind == "gpt2"


def test_another_vocabulary_is_bare_states(tmp_path):
    space = StateSpace(shape=(9,), num_states=50257, mask_id=50256)
    codec = recipe_of(designed("mdlm", space, tmp_path, {"length": 9})).codec
    assert (codec.kind, codec.num_dims, codec.num_states) == ("states", 9, 50256)


def test_other_codes_are_bare_states(tmp_path):
    space = StateSpace(shape=(1, 16, 16), num_states=513, mask_id=512, num_classes=10)
    recipe = recipe_of(designed("maskgit", space, tmp_path))
    assert (recipe.codec.kind, recipe.codec.num_states, recipe.classes) == ("states", 512, 10)


def test_a_row_of_codes_is_no_grid(tmp_path):
    space = StateSpace(shape=(200,), num_states=1025, mask_id=1024, num_classes=1000)
    assert recipe_of(designed("maskgit", space, tmp_path)).codec.kind == "states"


@pytest.mark.parametrize(
    "sizes",
    [
        {"channels": 8, "multipliers": [1], "blocks": 3, "attention": [], "features": 6},
        {"channels": 8, "multipliers": [1, 3, 2], "blocks": 1, "attention": [0, 2]},
        {"channels": 4, "multipliers": [2, 1], "blocks": 2, "attention": [0]},
    ],
)
def test_levels_are_read_from_the_way_down(sizes, tmp_path):
    network = recipe_of(designed("di4c-tauldr", PIXELS, tmp_path, **sizes)).network
    assert {key: getattr(network, key) for key in sizes} == sizes


def test_settings_arrive(tmp_path):
    stated = {"rate_sigma": 3.0, "Q_sigma": 99.0, "time_base": 2, "time_exponential": 50.0, "dropout": 0.3}
    recipe = recipe_of(designed("tauldr", PIXELS, tmp_path, stated | {"shape": [3, 16, 24]}))
    process = {"rate_sigma": 3.0, "target_sigma": 99.0, "time_base": 2.0, "time_exponential": 50.0}
    assert dict(recipe.process) == process
    assert recipe.network.dropout == 0.3
    assert (recipe.codec.height, recipe.codec.width) == (16, 24)
    recipe = recipe_of(designed("mdlm", TEXT, tmp_path, {"dropout": 0.3, "model_length": 77}))
    assert recipe.network.dropout == 0.3
    assert recipe.codec.length == 77
    recipe = recipe_of(designed("maskgit", CODES, tmp_path, {"dropout": 0.3, "heads": 8}))
    assert (recipe.network.dropout, recipe.network.heads) == (0.3, 8)
