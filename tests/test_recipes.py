"""The shipped recipes: valid, documented, and each trains, distils, samples and evaluates by its name."""

import importlib
import json
import os
from pathlib import Path

import pytest
from program import TINY, TINY_TEACHER, Program
from pydantic import BaseModel

import di4c_cli.core
from di4c_cli import recipe, shipped
from di4c_cli.core import component

RECIPES = sorted(shipped.recipe_paths())
FULL_SIZE = [
    "cifar10",
    "imagenet",
    "novels",
    "owt",
    "owt_round2",
    "owt_windowed",
    "sdtt",
]  # tests/e2e/test_full_size_recipes.py
ALIKE = [
    "cifar_small",
    "digits_gaussian",
    "mnist",
    "mnist_windowed",
    "shakespeare_windowed",
    "words_windowed",
]
"""Recipes that go the same ways as others do, for `pytest -m slow`."""
SECOND = {"shakespeare": "shakespeare_round2"}
"""Recipes whose teacher is the student of another: they follow it."""
DATA = {
    "mnist": "mnist",
    "mnist_windowed": "mnist",
    "mnist_tokens": "mnist",
    "cifar_small": "cifar10-lossless4k",
}
"""What a recipe needs in DI4C_DATA."""
FOLDERS = [path.parent.name for path in sorted(Path(di4c_cli.core.__path__[0]).glob("*/__init__.py"))]

DNA = [f"{k:070b}".replace("0", "A").replace("1", "C") for k in range(50)]
PROTEINS = [f"{k:030b}".replace("0", "-").replace("1", "L") for k in range(50)]

LOOK = ["hand_over.steps=[2]", "hand_over.num=4", "hand_over.num_latents=2"]

SMALLER = {
    "digits_gaussian": [*LOOK, "network.width=8", "metrics.5.num=10", "metrics.5.num_latents=4"],
    "digits": ["metrics.5.num=10", "metrics.5.num_latents=4"],
    "mnist": [*LOOK, "metrics.5.num=10", "metrics.5.num_latents=4"],
    "digits_windowed": [  # the shipped teacher is not tiny
        *("teacher.checkpoint=null", "student.components=4", "student.start_rounds=1"),
        *("metrics.5.num=10", "metrics.5.num_latents=4"),
    ],
    "mnist_windowed": [
        *("student.components=4", "student.start_rounds=1"),
        *("metrics.5.num=10", "metrics.5.num_latents=4"),
    ],
    "words_windowed": [
        *("student.components=4", "student.start_rounds=1"),
        *("metrics.2.num=10", "metrics.2.num_latents=4"),
    ],
    "words": [*LOOK, "metrics.2.num=10", "metrics.2.num_latents=4"],
    "toy": ["metrics.0.num_latents=4"],
    "mnist_tokens": ["network.width=16", "network.depth=1", "network.heads=2", "eval.guidance=[0,1]"],
    "shakespeare": [
        *("network.width=16", "network.depth=1", "network.heads=2", "network.cond=8"),
        *("student.components=8", "student.start_windows=1000", "metrics.2.num=4"),
    ],
    "shakespeare_windowed": [
        *("network.width=16", "network.depth=1", "network.heads=2", "network.cond=8"),
        *("student.components=8", "student.start_windows=1000", "metrics.2.num=4"),
    ],
    "qm9": ["student.components=4", "student.start_rounds=1", "metrics.2.num=10", "metrics.2.num_latents=4"],
    "dna": ["metrics.1.num=10", "metrics.1.num_latents=4"],
    "protein": [
        *("codec.length=30", "student.window=[30]", "student.components=4", "student.start_rounds=1"),
        *("metrics.1.num=10", "metrics.1.num_latents=4"),
    ],
    "cifar_small": ["network.channels=8", "network.features=8", "codec.height=8", "codec.width=8"],
}
"""Beyond what is tiny for all of them."""
SENTENCE = "To be, or not to be: that is the question.\n"
FILES = {
    "shakespeare": {"some.txt": SENTENCE * 60},
    "shakespeare_windowed": {"some.txt": SENTENCE * 60},
    "qm9": {"some/train.txt": "CCO\nC1CC1\nCC#N\nCCN\n" * 20, "some/test.txt": "smiles\nCCC\nC1CCO1\n"},
    "dna": {"some.tsv": "sequence\tlabel\n" + "".join(f"{row}\t0\n" for row in DNA)},
    "protein": {"some.a3m": "".join(f">\n{row}\n" for row in PROTEINS)},
}
"""What recipes read in place of their data, which is `dataset.path`."""
NEEDS = {"qm9": "rdkit"}
"""Packages of extras."""
BRIEFLY = """
from dataclasses import replace
from di4c_cli.core.metrics import _features
_features.SETTINGS = replace(_features.SETTINGS, num_train=1000, steps=20)
"""
"""For the metrics' classifier, which would take longest to train: no figure is judged here."""


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def test_every_recipe_passes_its_check(program):
    assert {"digits", "digits_gaussian", "mnist", "toy", "words"} <= set(RECIPES)
    report = program.ok("recipes", "check", *RECIPES, "--json").json
    assert report == [{"recipe": name, "ok": True, "errors": []} for name in RECIPES]


def test_every_recipe_is_listed_with_its_title(program):
    listed = program.ok("recipes", "--json").json
    assert [entry["name"] for entry in listed] == RECIPES
    assert all(entry["title"] for entry in listed)


@pytest.mark.parametrize("name", RECIPES)
def test_a_resolved_recipe_is_the_same_recipe(program, name):
    """`recipes show` is a recipe file again, and says nothing else."""
    shown = program.ok("recipes", "show", name).out
    (program.home / f"{name}.toml").write_text(shown, encoding="utf-8")
    configs = [
        program.ok("recipes", "show", which, "--json").json["config"] for which in (name, f"{name}.toml")
    ]
    assert configs[0] == configs[1]


def fixed_sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and the models of its fields, without those that are found by their kind."""
    found = [model]
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel) and part is not component.Config:
                found += fixed_sections(part)
    return found


def test_every_value_is_documented():
    kinds = [(folder, kind) for folder in FOLDERS for kind in component.kinds(folder)]
    assert len(kinds) > 20
    sections = [recipe.Recipe, *(component.config_class(folder, kind) for folder, kind in kinds)]
    for model in {inner for section in sections for inner in fixed_sections(section)}:
        assert model.__doc__, model
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__module__}: {name}"


def test_the_schema_describes_every_value(program):
    schema = program.ok("recipes", "schema").json
    tables = [schema, *schema["$defs"].values()]
    for table in tables:
        for name, value in table.get("properties", {}).items():
            assert name == "kind" or value.get("description"), (table.get("title"), name)


def test_every_kind_has_one_config_in_its_file():
    for folder in FOLDERS:
        base = importlib.import_module(f"di4c_cli.core.{folder}").Config
        for kind in component.kinds(folder):
            config = component.config_class(folder, kind)
            assert issubclass(config, base)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ALIKE else [])
        for name in RECIPES
        if name not in [*FULL_SIZE, *SECOND.values()]
    ],
)
def test_a_recipe_trains_distils_samples_and_evaluates_by_name(program, name, tmp_path):
    given = {"prelude": BRIEFLY}
    if name in DATA:
        if not Path(os.environ.get("DI4C_DATA", ""), DATA[name]).is_dir():
            pytest.skip(f"{DATA[name]} is not in DI4C_DATA")
        given["DI4C_DATA"] = os.environ["DI4C_DATA"]
    smaller = SMALLER.get(name, [])
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    for place, content in FILES.get(name, {}).items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(content)
    if name in FILES:
        first = Path(next(iter(FILES[name]))).parts[0]
        smaller = [*smaller, f"dataset.path={tmp_path}/{first}"]
    network = [value for value in smaller if value.startswith(("network.", "codec.", "dataset."))]
    tiny, tiny_teacher = TINY, TINY_TEACHER
    if name == "cifar_small":  # its network has no width
        tiny, tiny_teacher = (
            [v for v in all_of if v != "network.width=16"] for all_of in (TINY, TINY_TEACHER)
        )
    if name != "toy":
        made = program.ok("train-teacher", name, *tiny_teacher, *network, "--json", **given).json
        assert made["run"] == str(program.runs / name / "teacher-1")
    few = ["eval.steps=[1,2]", *smaller]
    distilled = program.ok("distill", name, *tiny, *few, "--json", **given).json
    assert distilled["checkpoint"] == str(program.runs / name / "student-1" / "final")
    compared = distilled["evaluation"]
    assert {row["model"] for row in compared["rows"]} >= {"teacher", "student"}
    assert all(row["metrics"].keys() == compared["directions"].keys() for row in compared["rows"])
    assert all(Path(path).stat().st_size > 0 for path in distilled["previews"])

    sampled = program.ok("sample", name, "--num", 3, "--json", **given).json
    assert sampled["source"] == distilled["checkpoint"]
    assert all((program.home / path).stat().st_size > 0 for path in sampled["files"])
    again = program.ok("eval", name, "--steps", "2", "--models", "student", "--json", **given).json
    known = next(row for row in compared["rows"] if (row["model"], row["steps"]) == ("student", 2))
    assert again["rows"][0]["metrics"] == known["metrics"]
    assert json.dumps(again["reference"]) == json.dumps(compared["reference"])
    if name in SECOND:
        brief = ["eval.steps=[1]", "eval.num=10", "teacher.student.components=8", *smaller]
        followed = program.ok("distill", SECOND[name], *tiny, *brief, "--json", **given).json
        assert {row["model"] for row in followed["evaluation"]["rows"]} == {"teacher", "student"}
