"""A new loss, process, sampler, network, data set or metric is one new file and a line of a recipe."""

import shutil
import textwrap
from pathlib import Path

import pytest
from program import Program

import di4c_cli
from di4c_cli import shipped

PACKAGE = Path(di4c_cli.__file__).parent

NEW_FILES = {
    "processes/late_masked.py": '''
        """Masks appear late: the masked share is t^power."""

        import torch
        from pydantic import Field
        from torch import Tensor

        from di4c_cli.core import processes
        from di4c_cli.core.processes.masked import MaskedProcess
        from di4c_cli.core.space import StateSpace


        class LateMasked(MaskedProcess):
            def __init__(self, space: StateSpace, power: float) -> None:
                super().__init__(space)
                self.power = power

            def mask_prob(self, t: Tensor) -> Tensor:
                return t.double() ** self.power

            def mask_rate(self, t: Tensor) -> Tensor:
                return self.power * t.double() ** (self.power - 1)


        class Config(processes.Config):
            """Masked process that starts slowly."""

            power: float = Field(2.0, gt=0)
            """Exponent of t."""

            def build(self, space: StateSpace) -> LateMasked:
                return LateMasked(space, self.power)
    ''',
    "networks/table.py": '''
        """One hidden layer over one-hot positions, and a table of lambda."""

        import torch
        from pydantic import Field
        from torch import nn

        from di4c_cli.core import networks
        from di4c_cli.core.space import StateSpace


        class Table(networks.Network):
            def __init__(self, space: StateSpace, hidden: int, bins: int) -> None:
                super().__init__()
                self.space, self.bins = space, bins
                size = space.num_dims * space.num_states
                self.inner = nn.Linear(size, hidden)
                self.outer = nn.Linear(hidden, size)
                self.lam = nn.Embedding(bins, hidden) if bins else None

            def body(self, x, t, label=None, lam=None):
                one_hot = nn.functional.one_hot(x, self.space.num_states).flatten(1)
                h = self.inner(one_hot.to(self.inner.weight.dtype))[:, None]
                if lam is not None:
                    h = h + self.lam((lam * self.bins).long().clamp(max=self.bins - 1))
                return torch.tanh(h)

            def head(self, h, positions):
                logits = self.outer(h).unflatten(-1, (self.space.num_dims, self.space.num_states))
                return logits[..., positions, :]


        class Config(networks.Config):
            """Table of lambda."""

            hidden: int = Field(32, ge=1)
            """Hidden units."""
            bins: int = Field(8, ge=1)
            """Values of lambda that are told apart."""

            def build(self, space: StateSpace, *, lam: bool) -> Table:
                return Table(space, self.hidden, self.bins if lam else 0)
    ''',
    "losses/entropy_gap.py": '''
        """The student's one-position marginals are as uncertain as the teacher's."""

        from torch import Tensor

        from di4c_cli.core import losses
        from di4c_cli.core.segment import Segment


        def entropy(log_p: Tensor) -> Tensor:
            return -(log_p.exp() * log_p).sum(-1)


        def entropy_gap(segment: Segment) -> Tensor:
            gap = entropy(segment.student_t.log_marginal()) - entropy(segment.teacher_t.log_p)
            return gap.square().sum(-1)


        class Config(losses.Config):
            """Squared gap of entropies."""

            def build(self) -> losses.Loss:
                return entropy_gap
    ''',
    "samplers/two_halves.py": '''
        """Each step in two halves with the same law: a compromise between cost and accuracy."""

        from di4c_cli.core import samplers
        from di4c_cli.core.samplers.ancestral import Ancestral


        class TwoHalves(Ancestral):
            def step(self, law, x_t, t, s, generator, num=1):
                middle = super().step(law, x_t, t, (t + s) / 2, generator, num)
                rows = [samplers.per_row(time, x_t).repeat_interleave(num) for time in ((t + s) / 2, s)]
                x_0 = law.draw(generator, num).flatten(0, 1)
                x_s = self.process.sample_posterior(x_0, middle.flatten(0, 1), *rows, generator)
                return x_s.unflatten(0, (-1, num))


        class Config(samplers.Config):
            """Ancestral steps by halves."""

            def build(self, process) -> TwoHalves:
                return TwoHalves(process)
    ''',
    "datasets/agreeing.py": '''
        """All positions agree, except now and then."""

        import torch
        from pydantic import Field

        from di4c_cli.core import datasets
        from di4c_cli.core.codecs.states import StateCodec
        from di4c_cli.core.datasets import Dataset, TensorSplit
        from di4c_cli.core.datasets._codec import expect


        class Config(datasets.Config):
            """Points of S^D on the diagonal, and a share of any others."""

            noise: float = Field(0.1, gt=0, lt=1)
            """Share of uniform points."""

            def build(self, codec) -> Dataset:
                space = expect(codec, StateCodec, "states", "agreeing").space
                D, S = space.num_dims, space.num_states
                joint = torch.full((S,) * D, self.noise / S**D, dtype=torch.float64)
                for state in range(S):
                    joint[(state,) * D] += (1 - self.noise) / S
                generator = torch.Generator().manual_seed(0)
                flat = torch.multinomial(joint.flatten(), 2000, True, generator=generator)
                points = torch.stack(torch.unravel_index(flat, joint.shape), -1)
                return Dataset(train=TensorSplit(points[:1000]), test=TensorSplit(points[1000:]), joint=joint)
    ''',
    "metrics/agreement.py": '''
        """How many samples have all their positions equal."""

        from di4c_cli.core import metrics


        class Agreement:
            def __init__(self) -> None:
                self.directions = {"agreement": "higher"}

            def __call__(self, trial) -> dict[str, float]:
                same = (trial.samples == trial.samples[:, :1]).all(1)
                return {"agreement": same.double().mean().item()}


        class Config(metrics.Config):
            """Share of samples that agree with themselves."""

            def build(self) -> Agreement:
                return Agreement()
    ''',
}

RECIPE = """
title = "Everything new at once"
threads = 1

[codec]
kind = "states"
num_dims = 4
num_states = 2

[dataset]
kind = "agreeing"
noise = 0.2

[process]
kind = "late_masked"
power = 1.5

[network]
kind = "table"
parameterization = "subs"
hidden = 24

[teacher]
kind = "exact"

[teacher_sampler]
kind = "two_halves"

[sampler]
kind = "two_halves"

[student]
kind = "mixture"
num_latents = 16
init = "scratch"

[times]
at_one = 0.5

[[losses]]
kind = "entropy_gap"
weight = 0.1

[[losses]]
kind = "marginal"

[[losses]]
kind = "datapoint"

[[losses]]
kind = "consistency"

[train]
steps = 300
batch_size = 32
lr = 1e-2

[preview]
every = 100

[eval]
steps = [1, 4]
num = 2000

[[metrics]]
kind = "agreement"

[[metrics]]
kind = "tv"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package as a wheel installs it, recipes and teacher inside, and the new files dropped in."""
    site = tmp_path_factory.mktemp("site")
    package = shutil.copytree(
        PACKAGE, site / "di4c_cli", ignore=shutil.ignore_patterns("__pycache__", "shipped")
    )
    shutil.copytree(shipped.recipe_paths()["digits"].parent, package / "shipped/recipes")
    shutil.copytree(shipped.shipped_teacher("digits"), package / "shipped/checkpoints/digits/teacher")
    for name, source in NEW_FILES.items():
        assert not (package / "core" / name).exists()
        (package / "core" / name).write_text(textwrap.dedent(source).lstrip(), encoding="utf-8")
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
    for kind in ("late_masked", "table", "entropy_gap", "two_halves", "agreeing", "agreement"):
        assert any(f"unknown kind '{kind}'" in line for line in complaint)


def test_the_installed_program_brings_its_teacher(program, installed):
    """No clone beside it: recipes and checkpoint come from inside the package."""
    told = program.cold("sample", "digits", "--num", 2, "--json", PYTHONPATH=str(installed))
    assert told.code == 0, told.err
    assert told.json["source"] == str(installed / "di4c_cli/shipped/checkpoints/digits/teacher")
