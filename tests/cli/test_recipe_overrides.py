"""`key=value`: values, refusals, and what becomes of a recipe."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from di4c_cli.errors import RecipeError, UsageError
from di4c_cli.recipe_file import load, parse_override, resolved
from di4c_cli.recipe_file._emit import to_toml

VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_toml_values_come_back(value):
    text = to_toml({"v": [value, 0]}).removeprefix("v = [").removesuffix(", 0]\n")
    assert parse_override(f"a.b={text}") == ("a.b", value)


@given(st.text())
def test_any_text_is_a_value(text):
    """Either what TOML makes of it, in whole, or the text itself; never an error, never a second key."""
    key, value = parse_override(f"key={text}")
    assert key == "key"
    if value is None:
        assert text.strip() == "null"
    elif value != text:
        assert tomllib.loads(f"v = {text}") == {"v": value} or value != value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("5.0", 5.0), ("1e-3", 1e-3), ("true", True), ("[0.001,0.01]", [0.001, 0.01]), ('"5"', "5"),
        ("{a=1}", {"a": 1}), ("null", None), ("cosine", "cosine"), ("a=b", "a=b"), ("", ""), ("True", "True"),
        ("1 # one", "1 # one"), ("1,", "1,"), ("1\nb = 2", "1\nb = 2"), ("1]\nb = [2", "1]\nb = [2"),
        ("2020-01-01", "2020-01-01"), ("[" * 4000, "[" * 4000), ("/data/my file", "/data/my file"),
    ],
)  # fmt: skip
def test_values(text, value):
    parsed = parse_override(f"a={text}")[1]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["train.steps", "=5", "a b=1", "a..b=1", ".a=1", ""])
def test_not_an_override(text):
    with pytest.raises(UsageError, match=r"write key=value"):
        parse_override(text)


@pytest.mark.parametrize(
    ("overrides", "spelling"),
    [
        (["--train.steps", "5"], "write train.steps=5"),
        (["--train.steps=5"], "write train.steps=5"),
        (["--train.steps"], r"write train.steps=\.\.\."),
        (["-train.steps", "5"], "write train.steps=5"),
        (["train.steps=1", "--train.clip", "null"], "write train.clip=null"),
        (["--train.steps", "train.clip=2"], r"write train.steps=\.\.\."),
    ],
)
def test_flags_are_refused_with_the_right_spelling(good, overrides, spelling):
    with pytest.raises(UsageError, match=spelling):
        load(good, overrides)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.steps=7", "train.steps", 7),
        ("train.ema=false", "train.ema", False),
        ("train.lr=2", "train.lr.peak", 2.0),
        ("train.betas=[0.5,0.6]", "train.betas", [0.5, 0.6]),
        ("title=a bare title", "title", "a bare title"),
        ("process.rate=3", "process.rate", 3.0),
        ("losses.1.width=9", "losses.1.width", 9),
        ("losses.0.schedule=arccos", "losses.0.schedule", "arccos"),
        ("losses.2.kind=alpha", "losses.2.kind", "alpha"),  # one more entry
        ('losses=[{kind="alpha"}]', "losses.0.rate", 1.0),
        ("losses.0=null", "losses.0.width", 3),  # the second moves up
        ("steps.1=9", "steps", [1, 9]),
        ("train.clip=null", "train.clip", None),  # null is a value of this field
        ("train.steps=null", "train.steps", 100),  # and takes this key away
        ('network={kind="beta",width=1}', "network.width", 1),
        ('process={rate=4}', "process.kind", "alpha"),  # a table is merged
        ("step=[0.1,0.2]", "step", [0.1, 0.2]),
    ],
)  # fmt: skip
def test_an_override_changes_its_key_and_no_other(good, override, key, value):
    before, after = resolved(load(good))["values"], resolved(load(good, [override]))["values"]
    assert after[key]["value"] == value
    touched = (
        "losses" if key == "losses.0.width" else override.partition("=")[0]
    )  # moving up touches them all
    for other in before:
        if not other.startswith(touched) and not touched.startswith(other):
            assert after[other] == before[other]


def test_keys_need_not_be_in_the_file(schema, write):
    path = write('process.kind = "alpha"\nlosses = [{ kind = "alpha" }]\n')
    loaded = load(path, ["train.lr.shape=constant", "steps.2=8", "network.kind=beta", "network.width=1"])
    assert loaded.recipe.train.lr.shape == "constant"
    assert loaded.recipe.steps == [1, 2, 8]
    assert loaded.recipe.network.width == 1
    assert loaded.origins["steps"] == loaded.origins["network.width"] == "override"
    assert loaded.origins["train.lr.peak"] == "default"


def test_later_overrides_win(good):
    assert load(good, ["train.steps=1", "train.steps=2"]).recipe.train.steps == 2


def test_a_changed_kind_takes_its_own_keys(good):
    assert load(good, ["process.kind=beta", "process.width=2", "process.rate=null"]).recipe.process.width == 2
    with pytest.raises(RecipeError) as caught:
        load(good, ["process.kind=beta"])
    assert caught.value.message.splitlines() == [
        "mine.toml:4: process.width: is missing",
        "mine.toml:6: process.rate: unknown key of kind 'beta'; known: kind, width, inner",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=5", "override train.stepz=5: unknown key. Did you mean 'train.steps'?"),
        ("trian.steps=5", "override trian.steps=5: unknown key. Did you mean 'train'?"),
        ("process.kind=alpa", "expected one of alpha, beta. Did you mean 'alpha'?"),
        ("process.schedule=arcos", "not \"arcos\". Did you mean 'arccos'?"),
        ("train.steps=many", 'override train.steps=many: should be a valid integer, not "many"'),
        (
            "train={stepz=1}",
            "override train={stepz=1}: train.stepz: unknown key. Did you mean 'train.steps'?",
        ),
        ("losses.1.width=null", "override losses.1.width=null: is missing"),
        ("losses.5.width=1", "override losses.5.width=1: losses has 2 entries, counted from 0"),
        ("losses.width=1", "override losses.width=1: losses is a list"),
        ("title.x=1", "override title.x=1: title is a value, not a table"),
    ],
)
def test_errors_point_at_the_override(good, override, message):
    with pytest.raises(RecipeError) as caught:
        load(good, [override])
    assert len(caught.value.message.splitlines()) == 1
    assert message in caught.value.message


def test_resolved_values_are_json(good):
    values = resolved(load(good, ["train.clip=null"]))
    assert json.loads(json.dumps(values, allow_nan=False)) == values
