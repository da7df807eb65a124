"""Input that nobody thought of: it is read, or refused with an error of ours, and never a traceback.

`pytest -m slow -n 0 -s tests/test_fuzz.py` tries 10,000 of each kind.
"""

import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from released import KINDS, release

from di4c_cli import conversion, recipe_file, shipped
from di4c_cli.errors import Di4CError
from di4c_cli.runs import RunDirectory
from di4c_cli.tui.lines import JsonLinesTail
from di4c_cli.tui.tail import overview

FEW, MANY = 150, 10_000
examples = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)


def tried(examples: int, strategy: st.SearchStrategy, check: Callable[..., None]) -> None:
    """Call `check` with so many values; without its own errors it must come back."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == FEW,  # the same ones at every run; the slow ones are new
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value) -> None:
        try:
            check(value)
        except Di4CError as error:
            str(error).encode("utf-8", "backslashreplace")

    run()


# -- recipes -------------------------------------------------------------------------------------

RECIPES = [path.read_text(encoding="utf-8") for path in shipped.recipe_paths().values()]
LINES = sorted({line for text in RECIPES for line in text.splitlines()})
KEYS = sorted({line.partition("=")[0].strip() for line in LINES if "=" in line and line[0] not in "#["})
WORDS = [
    *("true", "false", "inf", "-inf", "nan", "-1", "0", "1e400", "9" * 400, "1979-05-27", "07:32:00", '""'),
    *("[]", "{}", "[[]]", "[{}]", '"\\ud800"', "'a'", '"""', "0x10", "1_000", '"masked"', "null", '[1, "a"]'),
    *('{ kind = "mlp" }', '{ scale = 1.0, shape = "linear" }', "[1e-3, 1e-2]", "[" * 200, "{a=" * 200),
]
values = st.sampled_from(WORDS) | st.text(max_size=12) | st.integers().map(str) | st.floats().map(repr)
names = st.sampled_from(KEYS) | st.text(string.ascii_letters + string.digits + "._-", max_size=12)
lines = st.sampled_from(LINES) | st.builds("{} = {}".format, names, values) | st.text(max_size=20)
lines |= st.builds("[{}]".format, names) | st.builds("[[{}]]".format, names)


@st.composite
def recipes(draw) -> bytes:
    """A shipped recipe with lines changed, added, taken away or cut; or lines that go together by chance."""
    text = draw(st.sampled_from(RECIPES)).splitlines() if draw(st.integers(0, 4)) else []
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        text[place : place + draw(st.integers(0, 2))] = draw(st.lists(lines, max_size=2))
    raw = "\n".join(text).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(raw)))
        raw = raw[:place] + draw(st.binary(max_size=4)) + raw[place + draw(st.integers(0, 3)) :]
    return raw


@examples
def test_recipes(examples, tmp_path):
    path = tmp_path / "fuzzed.toml"

    def check(raw: bytes) -> None:
        path.write_bytes(raw)
        loaded = recipe_file.load(path)
        resolved = recipe_file.resolved(loaded)
        again = recipe_file.load_resolved(resolved, path=path)
        assert recipe_file.resolved(again)["config"] == resolved["config"] or "nan" in str(resolved).lower()

    tried(examples, recipes(), check)


# -- overrides -----------------------------------------------------------------------------------

DOTTED = sorted(
    key for path in shipped.recipe_paths().values() for key in recipe_file.load(path).origins if "." in key
)
dotted = st.sampled_from(DOTTED) | st.builds("{}.{}".format, st.sampled_from(DOTTED), names)
dotted |= st.sampled_from(DOTTED).map(lambda key: key.rpartition(".")[0]) | names
dotted |= st.builds("{}.{}".format, st.sampled_from(["losses", "metrics", "eval.steps"]), st.integers(-2, 9))
overrides = st.builds("{}={}".format, dotted, values) | st.text(max_size=20)
overrides |= st.builds("--{}".format, dotted)


@examples
def test_overrides(examples):
    paths = list(shipped.recipe_paths().values())
    given_now = st.tuples(st.sampled_from(paths), st.lists(overrides, min_size=1, max_size=3))
    tried(examples, given_now, lambda value: recipe_file.resolved(recipe_file.load(*value)))


# -- metrics -------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
json_rows = st.dictionaries(
    st.sampled_from(["step", "time", "loss", "loss/a", "lr", "elapsed"]) | st.text(max_size=4),
    scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=2), scalars, max_size=2),
    max_size=5,
)
raw_lines = st.binary(max_size=30) | st.just(b"[" * 3000)
raw_lines |= json_rows.map(lambda row: json.dumps(row).encode())
files = st.lists(raw_lines, max_size=6).map(b"\n".join) | st.binary(max_size=200)


@examples
def test_metrics(examples, tmp_path):
    """By the run directory, and by the monitor; and a resume cuts them off."""
    run = RunDirectory(tmp_path)

    def check(raw: bytes) -> None:
        run.metrics_path.write_bytes(raw)
        for row in run.metrics():
            assert isinstance(row, dict)
        run.last_figures("loss", "lr")
        overview(run.metrics_path)
        JsonLinesTail(run.metrics_path).poll()
        run.truncate_metrics(3)

    tried(examples, files, check)


@examples
def test_status_and_resolved(examples, tmp_path):
    run = RunDirectory(tmp_path)

    def check(raw: bytes) -> None:
        (tmp_path / "status.json").write_bytes(raw)
        (tmp_path / "resolved.json").write_bytes(raw)
        assert run.status().visible_state
        recipe_file.load_run(run)

    tried(examples, files | raw_lines, check)


# -- released files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> list[tuple[str, Path]]:
    """One small released file of each kind, with what lies beside it."""
    folder = tmp_path_factory.mktemp("released")
    return [(kind, release(kind, folder / kind).path) for kind in KINDS]


@st.composite
def damages(draw) -> tuple[int, list[tuple[float, bytes, int]], bool]:
    """Which release, what is written over where (a share of the file), and whether in the file beside."""
    place = st.floats(0, 1) | st.floats(0, 0.02) | st.floats(0.98, 1)
    piece = st.binary(max_size=6) | st.sampled_from([b"\x80\x02", b"cos\nsystem\n", b"\xff" * 8, b"(lp0\n."])
    change = st.tuples(place, piece, st.integers(0, 8))
    return draw(st.integers(0, 7)), draw(st.lists(change, min_size=1, max_size=3)), draw(st.booleans())


@examples
def test_released_files(examples, releases, tmp_path):
    tried_in = tmp_path / "tried"

    def check(damage) -> None:
        number, changes, beside = damage
        kind, whole = releases[number]
        shutil.rmtree(tried_in, ignore_errors=True)
        shutil.copytree(whole if whole.is_dir() else whole.parent, tried_in / "in")
        made = tried_in / "in" if whole.is_dir() else tried_in / "in" / whole.name
        others = sorted(path for path in (tried_in / "in").iterdir() if path.suffix in (".json", ".yaml"))
        target = others[0] if beside else made / "model.safetensors" if made.is_dir() else made
        raw = target.read_bytes()
        for share, piece, dropped in changes:
            place = int(share * len(raw))
            raw = raw[:place] + piece + raw[place + dropped :]
        target.write_bytes(raw)
        conversion.convert(str(made), kind, tried_in / "out")

    tried(examples, damages(), check)
