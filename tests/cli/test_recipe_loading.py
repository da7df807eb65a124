"""Recipe files: errors with their lines, origins, and the way back from resolved.json."""

import tomllib

import pytest

from di4c_cli import recipe_file, shipped
from di4c_cli.core.progress import reporting
from di4c_cli.errors import CheckpointError, RecipeError
from di4c_cli.runs import RunDirectory, Status


def errors(path, overrides=()):
    with pytest.raises(RecipeError) as caught:
        recipe_file.load(path, overrides)
    return str(caught.value).splitlines()


def test_all_errors_at_once_in_the_order_of_the_file(schema, write):
    path = write("""\
titel = "x"
steps = [1, "two"]
step = [1, "b"]

[process]
kind = "alpha"
rate = -1
schedule = "arcos"

[network]
width = 3

[[losses]]
kind = "beta"
width = "wide"
inner = { kind = "alpha", ratee = 2 }

[[losses]]
kind = "gamma"

[train]
stepz = 5
lr = { peak = 1, shap = "cosine" }
clip = [1]
betas = "b"
""")
    assert errors(path) == [
        "mine.toml:1: titel: unknown key. Did you mean 'title'?",
        'mine.toml:2: steps.1: should be a valid integer, not "two"',
        'mine.toml:3: step.1: should be a valid number, not "b"',
        "mine.toml:7: process.rate: should be greater than 0, not -1",
        "mine.toml:8: process.schedule: should be 'linear' or 'arccos', not \"arcos\"."
        " Did you mean 'arccos'?",
        "mine.toml:10: network: `kind` is missing; expected one of alpha, beta",
        'mine.toml:15: losses.0.width: should be a valid integer, not "wide"',
        "mine.toml:16: losses.0.inner.ratee: unknown key of kind 'alpha'. Did you mean 'rate'?",
        "mine.toml:19: losses.1.kind: unknown kind 'gamma'; expected one of alpha, beta",
        "mine.toml:22: train.stepz: unknown key. Did you mean 'steps'?",
        "mine.toml:23: train.lr.shap: unknown key. Did you mean 'shape'?",
        "mine.toml:24: train.clip: should be a valid number, not [1]",
        'mine.toml:25: train.betas: should be a valid tuple, not "b"',
    ]


def test_truth_values_and_texts_are_no_numbers(schema, write):
    path = write("""\
process = { kind = "alpha", rate = "2" }
losses = [{ kind = "beta", width = true }]
steps = [1, true]
step = [0.1, "0.2"]
[train]
steps = "8"
clip = false
lr = { peak = true }
""")
    assert errors(path) == [
        'mine.toml:1: process.rate: should be a valid number, not "2"',
        "mine.toml:2: losses.0.width: should be a valid integer, not true",
        "mine.toml:3: steps.1: should be a valid integer, not true",
        'mine.toml:4: step.1: should be a valid number, not "0.2"',
        'mine.toml:6: train.steps: should be a valid integer, not "8"',
        "mine.toml:7: train.clip: should be a valid number, not false",
        "mine.toml:8: train.lr.peak: should be a valid number, not true",
    ]
    whole = recipe_file.load(write('process.kind = "alpha"\nlosses = [{ kind = "alpha", rate = 2 }]\n'))
    assert whole.recipe.losses[0].rate == 2.0
    assert recipe_file.load(whole.path, ["train.steps=1e3"]).recipe.train.steps == 1000


def test_of_the_real_recipe_too():
    """Also what has validators of its own around: the recipe itself, and an average that is switched off."""
    digits = shipped.find_recipe("digits")
    for override, told in [
        ("threads=true", "should be a valid integer, not true"),
        ("train.ema=true", "should be a valid number, not true"),
        ("train.lr=fast", 'should be a number or a table, not "fast"'),
        ("losses.0.weight=true", "should be a number or a table, not true"),
    ]:
        assert errors(digits, [override]) == [f"override {override}: {told}"]
    assert recipe_file.load(digits, ["train.ema=false"]).recipe.train.ema == 0


def test_a_union_tells_what_each_branch_wants(schema, write):
    path = write('process.kind = "alpha"\nlosses = [{ kind = "alpha" }]\nstep = "fast"\n')
    assert errors(path) == [
        'mine.toml:3: step: should be a valid number, not "fast", or should be a valid tuple, not "fast"'
    ]


def test_numbers_that_json_has_no_word_for(schema, write):
    """Checkpoints tell the recipe in JSON."""
    path = write('process.kind = "alpha"\nlosses = [{ kind = "alpha" }]\ntrain.clip = inf\n')
    assert errors(path) == ["mine.toml:3: train.clip: should be a finite number, not Infinity"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Settings = None\n", "has no class Config"),
        ("class Config: ...\n", "has no class Config"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def build(:\n", "SyntaxError: invalid syntax (broken.py, line 1)"),
    ],
)
def test_a_file_that_is_no_kind_is_named_and_spoils_nothing_else(schema, write, tmp_path, text, told):
    (tmp_path / "fakes" / "broken.py").write_text(text)
    what = f"kind 'broken' cannot be used: {tmp_path}/fakes/broken.py: {told}"
    path = write('process.kind = "alpha"\nlosses = [{ kind = "broken", rate = 1 }]\n')
    assert errors(path) == [f"mine.toml:2: losses.0.kind: {what}"]
    assert recipe_file.load(path, ["losses.0.kind=alpha"]).recipe.losses[0].kind == "alpha"
    remarks = []
    with reporting(remark=remarks.append):
        definitions = recipe_file.json_schema()["$defs"]
    assert remarks == [f"left out of the schema: {what}"]
    assert {"fakes: alpha", "fakes: beta"} <= {part.get("title") for part in definitions.values()}


def test_missing_sections(schema, write):
    assert errors(write("title = 'x'\n")) == [
        "mine.toml:1: losses: is missing",
        "mine.toml:1: process: is missing",
    ]


def test_an_override_and_the_file_may_both_be_wrong(schema, write):
    path = write('process.kind = "alpha"\nlosses = [{ kind = "alpha" }]\n[train]\nstepz = 1\n')
    assert errors(path, ["train.clap=1"]) == [
        "mine.toml:4: train.stepz: unknown key. Did you mean 'steps'?",
        "override train.clap=1: unknown key. Did you mean 'train.clip'?",
    ]


def test_lines_hold_after_an_entry_was_taken_out(good):
    assert errors(good, ["losses.0=null", "losses.0.width=null"]) == [
        "override losses.0.width=null: is missing"
    ]
    loaded = recipe_file.load(good, ["losses.0=null"])
    assert loaded.origins["losses.0.width"] == "mine.toml:13"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = = 2\n", "mine.toml:2: Invalid value (column "),
        ("a = 1\na = 2\n", "mine.toml:2: Cannot overwrite a value (column "),
        ('a = 1\nb = "open', "mine.toml:2: "),
        ('a = """\nopen\n', "mine.toml:2: "),
    ],
)
def test_syntax_errors_have_a_line_too(schema, write, text, message):
    assert errors(write(text))[0].startswith(message)


def test_files_that_cannot_be_read(schema, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.toml").write_bytes("title = 'é'".encode("latin-1"))
    assert "latin.toml: not UTF-8" in errors(tmp_path / "latin.toml")[0]
    assert "none.toml: No such file" in errors(tmp_path / "none.toml")[0]
    assert "Is a directory" in errors(tmp_path)[0]


def test_origins(good):
    origins = recipe_file.load(good, ["process.rate=3", "losses.1.width=4"]).origins
    assert origins == {
        "title": "mine.toml:1",
        "process.kind": "mine.toml:5",
        "process.rate": "override",
        "process.schedule": "default",
        "network": "default",
        "losses.0.kind": "mine.toml:9",
        "losses.0.rate": "default",
        "losses.0.schedule": "default",
        "losses.1.kind": "mine.toml:12",
        "losses.1.width": "override",
        "losses.1.inner": "default",
        "train.steps": "mine.toml:16",
        "train.lr.peak": "mine.toml:17",  # a plain number stands for the table
        "train.lr.shape": "default",
        "train.clip": "default",
        "train.betas": "default",
        "train.ema": "default",
        "steps": "mine.toml:2",
        "step": "default",
    }


def test_the_loaded_recipe_keeps_the_file_as_it_is(good):
    loaded = recipe_file.load(good, ["train.steps=1"])
    assert (loaded.name, loaded.path, loaded.text) == ("mine", good, good.read_text())


def test_resolved_and_back(good):
    loaded = recipe_file.load(good, ["train.clip=null", "losses.1.inner.kind=alpha"])
    resolved = recipe_file.resolved(loaded, "student", ["di4c", "distill"])
    assert resolved["config"]["losses"][1]["inner"] == {"kind": "alpha", "rate": 1.0, "schedule": "linear"}
    assert resolved["values"]["train.clip"] == {"value": None, "origin": "override"}
    assert (resolved["recipe"], resolved["role"], resolved["command"]) == (
        "mine",
        "student",
        ["di4c", "distill"],
    )
    assert resolved["versions"]["python"]
    assert recipe_file.from_resolved(resolved) == loaded.recipe


def test_a_run_gives_its_recipe_back_with_origins(good, tmp_path):
    loaded = recipe_file.load(good, ["process.rate=3"])
    run = RunDirectory.create("mine", "student", root=tmp_path)
    run.write_recipe(loaded.text)
    run.write_resolved(recipe_file.resolved(loaded))
    run.write_status(Status())
    good.unlink()
    again = recipe_file.load_run(run, ["train.steps=9"])
    assert again.recipe == loaded.recipe.model_copy(
        update={"train": loaded.recipe.train.model_copy(update={"steps": 9})}
    )
    assert (again.name, again.text) == (loaded.name, loaded.text)
    changed = {key for key in loaded.origins if again.origins[key] != loaded.origins[key]}
    assert changed == {"train.steps"}
    assert (
        errors_of_run(run, ["train.stepz=9"])
        == "override train.stepz=9: unknown key. Did you mean 'train.steps'?"
    )


def errors_of_run(run, overrides):
    with pytest.raises(RecipeError) as caught:
        recipe_file.load_run(run, overrides)
    return str(caught.value)


def test_a_checkpoint_of_another_version_says_where(good):
    resolved = recipe_file.resolved(recipe_file.load(good))
    resolved["config"]["train"]["gone"] = 1
    with pytest.raises(RecipeError, match=r"^resolved.json: train.gone: unknown key"):
        recipe_file.from_resolved(resolved)
    with pytest.raises(CheckpointError, match="holds no recipe"):
        recipe_file.from_resolved({})


def test_the_toml_of_show_reads_back(good):
    loaded = recipe_file.load(good, ["losses.1.inner.kind=alpha", 'title=say "hi" \\ é\u2028'])
    text = recipe_file.to_toml(recipe_file.resolved(loaded)["config"], loaded.origins)
    good.write_text(text, encoding="utf-8")
    assert recipe_file.load(good).recipe == loaded.recipe
    assert "# network = null  # default" in text
    assert "rate = 2.0  # mine.toml:6" in text


def test_shipped_recipes_are_sound_and_resolve_to_themselves(tmp_path):
    paths = shipped.recipe_paths()
    assert "digits" in paths
    for name, path in paths.items():
        loaded = recipe_file.load(path)
        resolved = recipe_file.resolved(loaded)
        assert recipe_file.from_resolved(resolved) == loaded.recipe
        assert resolved["values"].keys() == loaded.origins.keys()
        lines = path.read_text().splitlines()
        for key, origin in loaded.origins.items():
            if origin != "default":  # the line it names does name the key
                named = lines[int(origin.rpartition(":")[2]) - 1]
                assert any(part in named for part in key.split(".")), f"{name}: {key}: {origin}"
        copy = tmp_path / path.name
        copy.write_text(recipe_file.to_toml(resolved["config"]), encoding="utf-8")
        assert tomllib.loads(copy.read_text())
