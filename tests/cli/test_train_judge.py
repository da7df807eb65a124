"""`train-judge`: from a recipe of running text to the judge that its evaluation finds."""

import json

import pytest

from di4c_cli import recipe_file
from di4c_cli.core import checkpoints
from di4c_cli.core.judges import transformer
from di4c_cli.core.metrics import Trial

SMALL = [
    *('metrics.4.judge={kind="transformer", width=16, depth=1, heads=2}', "dataset.path=some.txt"),
    "codec.length=16",
]


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A text in the working directory, and few tokens a step."""
    (tmp_path / "some.txt").write_text("To be, or not to be: that is the question.\n" * 60)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transformer, "BATCH", 128)


def perplexity_of(overrides, tmp_path):
    """What the metric of the recipe says of held-out text, and who judges."""
    from di4c_cli import shipped

    recipe = recipe_file.load(shipped.find_recipe("shakespeare"), overrides).recipe
    codec = recipe.codec.build()
    data = recipe.dataset.build(codec)
    measure = recipe.metrics[4].build()
    trial = Trial(data.test.x_0 if hasattr(data.test, "x_0") else data.test.rows.x_0.long(), codec, data,
                  recipe.process.build(codec.space), None, 0, tmp_path / "runs/.cache")  # fmt: skip
    return measure(trial)["judge_ppl"].figure, measure.judge(trial)


def test_the_judge_is_trained_and_found(run, text, tmp_path):
    result = run("train-judge", "shakespeare", *SMALL, "--steps", 20, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told.keys() == {"out", "judge", "recipe", "steps", "seed", "held_out"}
    assert (told["recipe"], told["steps"], told["seed"]) == ("shakespeare", 20, 0)
    assert told["out"].startswith(str(tmp_path / "runs/.cache/judges/transformer-"))
    figure, judge = perplexity_of(SMALL, tmp_path)
    assert judge == told["judge"]
    assert 1 < figure < 66
    folder = tmp_path / told["out"]
    header = checkpoints.read_config(folder)
    assert (header["role"], header["kind"]) == ("judge", "transformer")
    assert header["architecture"] == {"width": 16, "depth": 1, "heads": 2}
    assert header["source"]["held_out"] == told["held_out"]
    assert "di4c train-judge shakespeare --steps 20 --seed 0" in (folder / "README.md").read_text()


def test_steps_and_seed_count_and_the_newest_judges(run, text):
    def trained(*arguments):
        result = run("train-judge", "shakespeare", *SMALL, "--quiet", "--json", *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return json.loads(result.stdout)

    made = [
        trained("--steps", 4),
        trained("--steps", 4),
        trained("--steps", 5),
        trained("--steps", 4, "--seed", 1),
    ]
    assert len({one["out"] for one in made}) == 1
    assert len({one["judge"] for one in made}) == 3
    assert made[0] == made[1]


def test_facts_are_lines(run, text):
    result = run("train-judge", "shakespeare", *SMALL, "--steps", 4)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        *("out", "judge", "recipe", "steps", "seed", "held_out")
    ]
    assert "judge: 4/4" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "digits: its codec is pixels, there is no running text to judge"),
        (["toy"], "toy: its codec is states"),
        (["nothing"], "nothing: no such recipe"),
        (["shakespeare", "--steps", "0"], "--steps"),
        (["shakespeare", "--device", "tpu"], "--device"),
        (["shakespeare", "dataset.path=none.txt"], "none.txt"),
        (["shakespeare", 'metrics.4.judge={kind="transformer", width=10}'], "even multiple of 4 heads"),
    ],
)
def test_refusals(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run("train-judge", *arguments, "--quiet")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_place_that_cannot_be_written_is_told_before_the_training(run, text, tmp_path):
    (tmp_path / "runs").write_text("a file")
    result = run("train-judge", "shakespeare", *SMALL, "--quiet")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
