"""The windowed student from the command line: it starts from data, and teaches a second round."""

import pytest
import torch
from program import Program

from di4c_cli import shipped, sources
from di4c_cli.core.datasets import spread
from di4c_cli.core.denoiser import ProductDenoiser
from di4c_cli.core.metrics.nll_bound import call_nats

BRIEF = ["train.steps=3", "train.log_every=1", "preview.every=0", "student.components=8"]
BRIEF += ['metrics=[{kind="nll_bound",num=40}]', "eval.num=20", "eval.steps=[1,2]"]
STUDENT = 'kind = "windowed"\nwindow = [8, 8]\nlayouts = 1\ntied = false\nbalanced = true\ncomponents = 8\n'


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def bounds(result):
    """NLL bound by model and steps."""
    return {(row["model"], row["steps"]): row["metrics"]["nll_bound"] for row in result["evaluation"]["rows"]}


def test_a_start_from_data_is_ahead_of_the_teacher_and_a_round_can_follow(program, tmp_path):
    first = program.ok("distill", "digits_windowed", *BRIEF, "--name", "first", "--json").json
    nats = bounds(first)
    assert nats["student", 1] < nats["teacher", 1] - 5
    recipe = shipped.recipe_paths()["digits_windowed"].read_text()
    before, after = recipe.index("[teacher]"), recipe.index("[teacher_sampler]")
    teacher = f'[teacher]\nkind = "mixture"\n\n[teacher.student]\n{STUDENT}\n'
    (tmp_path / "round2.toml").write_text(recipe[:before] + teacher + recipe[after:])
    chosen = ["--teacher", "digits_windowed/first", "--json"]
    second = program.ok("distill", tmp_path / "round2.toml", *BRIEF, *chosen).json
    again = bounds(second)
    # The first round's student is the teacher now, and where the second starts.
    assert again["teacher", 1] == pytest.approx(nats["student", 1], abs=0.01)
    assert again["student", 1] == pytest.approx(nats["student", 1], abs=1.0)


def test_the_same_seed_starts_from_the_same_codebook(program):
    runs = [
        program.ok("distill", "digits_windowed", *BRIEF, "--name", name, "--json").json for name in ("a", "b")
    ]
    assert bounds(runs[0]) == bounds(runs[1])


class OwnMarginals(ProductDenoiser):
    """A student without its correlations: the product of its marginals."""

    def __init__(self, student):
        self.student = student

    def __call__(self, x_t, t, label=None, *, generator=None):
        return self.student.law(x_t, t, label, generator=torch.Generator()).marginal()


def test_what_gains_is_correlation(program, monkeypatch):
    """NLL bounds on the same chains, nats: teacher, marginals of the student alone, student (-s)."""
    few = ["train.steps=3", "preview.every=0", 'metrics=[{kind="nll_bound",num=4}]', "eval.steps=[1]"]
    run = program.ok("distill", "digits_windowed", *few, "--json").json["run"]
    monkeypatch.setenv("DI4C_RUNS", str(program.runs))
    found = sources.resolve(run, [])
    house = sources.House.build(found.recipe, found.path)
    models = sources.load_models(found, house, torch.device("cpu"))
    x_0 = spread(house.dataset().test, 100).x_0
    for steps in (1, 2, 4, 8):
        nats = []
        for model in (models.teacher, OwnMarginals(models.student), models.student):
            plan = found.recipe.sampler.plan(steps, model)
            chain, latents = (torch.Generator().manual_seed(0) for _ in range(2))
            nats.append(call_nats(plan, house.process, x_0, chain, latents, 1).sum(1).mean().item())
        teacher, marginals, student = nats
        print(f"K = {steps}: {teacher:.2f} {marginals:.2f} {student:.2f}")
        assert abs(marginals - teacher) < 0.6
        assert teacher - student > 2 * abs(marginals - teacher)
