"""Whatever comes from outside ends as a value or in one line: no traceback, no hang.

A few hundred inputs each; `pytest -m slow tests/test_fuzzing.py` takes 10,000.
"""

import json
import shutil
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from released import release

from di4c_cli import conversion, recipe_file, shipped
from di4c_cli.errors import Di4CError
from di4c_cli.runs import RunDirectory

FEW, MANY = 200, 10_000
HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
RECIPE = shipped.recipe_paths()["digits"].read_bytes()
KEYS = list(recipe_file.resolved(recipe_file.load(shipped.recipe_paths()["digits"]))["values"])
LINE = json.dumps({"step": 20, "time": 1.5, "loss": 2.5, "loss/marginal": 0.25}).encode()
TOML = st.sampled_from(
    [b"[", b"]]", b"=", b"{", b"\n[[losses]]\n", b'"""', b"1e999", b"nan", b"\xff", b"\x00", b"kind"]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

examples = pytest.mark.parametrize(
    "num", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)


def tried(num, strategy, check):
    """`check` on so many drawn inputs."""
    options = {"max_examples": num, "deadline": 20_000, "suppress_health_check": HEALTH, "database": None}
    settings(**options)(given(strategy)(check))()


def in_one_line(work):
    """What `work` gives, if it does not end in an error for people."""
    try:
        return work()
    except Di4CError as error:
        told = error
    assert told.exit_code == 2
    assert str(told)
    return None


@st.composite
def damaged(draw, whole, pieces):
    """Some bytes of a file cut out, doubled, moved or written over."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        other = draw(st.integers(0, len(content)))
        new = draw(st.one_of(pieces, st.binary(max_size=6), st.just(bytes(content[other : other + 30]))))
        content[start:end] = new
    return bytes(content)


@examples
def test_recipes(num, tmp_path):
    path = tmp_path / "given.toml"

    def check(content):
        path.write_bytes(content)
        loaded = in_one_line(lambda: recipe_file.load(path))
        if loaded is not None:  # and then says the same of itself
            assert json.loads(json.dumps(recipe_file.resolved(loaded)))["values"]

    tried(num, damaged(RECIPE, TOML), check)


@examples
def test_overrides(num):
    path = shipped.recipe_paths()["digits"]
    text = st.text(max_size=12) | ANY.map(lambda value: json.dumps(value, ensure_ascii=False))
    key = st.sampled_from(KEYS) | st.text(max_size=12) | st.sampled_from(KEYS).map(lambda key: key[:-1])
    override = st.tuples(key, st.sampled_from(["=", "", "==", ".x="]), text).map("".join)

    def check(given):
        in_one_line(lambda: recipe_file.load(path, given))

    tried(num, st.lists(override, min_size=1, max_size=2), check)


@examples
def test_metrics(num, tmp_path):
    run = RunDirectory(tmp_path)
    rows = st.lists(
        st.one_of(
            st.just(LINE), damaged(LINE, st.binary(max_size=3)), ANY.map(lambda v: json.dumps(v).encode())
        ),
        max_size=4,
    )

    def check(lines):
        run.metrics_path.write_bytes(b"\n".join(lines))
        (tmp_path / "status.json").write_bytes(lines[0] if lines else b"")
        assert all(isinstance(row, dict) for row in run.metrics())
        assert run.last_figures("loss", "step").keys() <= {"loss", "step"}
        assert run.status().step >= 0 or lines
        run.truncate_metrics(10)

    tried(num, rows, check)


@examples
@pytest.mark.parametrize("kind", ["mdlm", "di4c-maskgit"])
def test_released_files(num, kind, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    path = release(kind, folder).path
    given_file = path / "model.safetensors" if path.is_dir() else path
    content = given_file.read_bytes()

    def check(damage):
        given_file.write_bytes(damage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = in_one_line(lambda: conversion.convert(str(path), kind, tmp_path / "out"))
        if found is not None:  # damage that reached no tensor's name or shape
            shutil.rmtree(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    tried(num, damaged(content, st.binary(max_size=3)), check)
