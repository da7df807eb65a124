"""The structured student: a discrete component for each window of positions, summed exactly."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from di4c_cli.core import codebook_fit, networks, parameterization, students
from di4c_cli.core.codebook import Codebook, GateKind
from di4c_cli.core.coupling import Chain
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.windowed_denoiser import WindowedDenoiser
from di4c_cli.core.windows import tiled

RANDOM_STD = 0.5  # of a codebook that starts without data


class Config(students.Config):
    """Mixture with one component for each window."""

    about = """\
A mixture with one discrete component for each window of positions, summed exactly: joints, marginals and
likelihoods in closed form, one component drawn a window in sampling. A component tilts the logits of the base
network; a gate weighs components by what x_t shows. A window of n positions carries at most (n - 1) log M
nats of correlation a step; between windows there is what a chain carries, or none.

The tables start from training data, and at t = 1 the model is nearly what was fitted there: on small teachers
most of its gain is the correlation of the data, not what distillation adds. Where windows are independent and
the data correlates beyond them, more steps are needed as in a product model; against strong teachers it is
untried. Ablations: "Beyond the paper" in the README of di4c."""

    window: list[int] = Field([8], min_length=1, max_length=2)
    """Positions of a window: [length] of text, [height, width] of images."""
    layouts: int = Field(2, ge=1, le=64)
    """Tilings that alternate from step to step, each moved on by that part of a window."""
    components: int = Field(256, ge=1)
    """M: components of a window of n positions; at most (n - 1) log M nats of correlation a step."""
    rank: int | None = Field(None, ge=1)
    """Rank of the tables, for large vocabularies: an embedding for each component; unset: full tables."""
    tied: bool = True
    """Whether windows share their tables, as in text; else every position has its own, as in images."""
    gate: GateKind = "features"
    """What weighs the components: a prior; also what is visible in the window; also a network on features."""
    chain: bool = False
    """Whether windows are coupled to their neighbours, a hidden Markov chain."""
    balanced: bool = False
    """Whether tilts count from their mean over the components, so that marginals stay near the teacher's."""
    network: Literal["frozen", "trained"] = "frozen"
    """Whether the teacher's network stays as it is, or learns along."""
    start: Literal["mixtures", "contexts", "random"] = "mixtures"
    """What the codebook starts from: mixtures fitted to windows of data by expectation-maximisation, counts
    of what windows of text end with (for chains), or noise."""
    start_windows: int = Field(100_000, ge=1)
    """Windows of training data that are looked at for it."""
    start_rounds: int = Field(10, ge=1)
    """Rounds of expectation-maximisation."""
    start_smoothing: float = Field(1.0, gt=0)
    """Windows of the marginal law that each mixture component is given on top of its own."""

    @model_validator(mode="after")
    def _contexts_follow_each_other(self) -> "Config":
        if self.start == "contexts" and not (self.chain and self.tied and len(self.window) == 1):
            raise ValueError('start = "contexts" is for runs of text: set chain = true, tied = true')
        return self

    def build(self, network: networks.Config, process: ForwardProcess) -> WindowedDenoiser:
        """Raises ValueError for windows, a rank or a gate that do not fit the positions or the process."""
        space, own = process.space, network.build(process.space, lam=False)
        param = parameterization.build(network.parameterization, process)
        size = tuple(self.window)
        shifts = [tuple(n * k // self.layouts for n in size) for k in range(self.layouts)]
        layouts = [tiled(space.shape, size, shift) for shift in shifts]
        if self.chain and any(windows.num == 1 for windows in layouts):
            raise ValueError(
                "chain: a single window has no neighbours; set smaller windows, or chain = false"
            )
        if self.gate != "prior" and param.open(torch.zeros(1, space.num_dims, dtype=torch.long)) is None:
            raise ValueError('gate: only a masked process under "subs" shows states; set gate = "prior"')
        if not self.tied:
            layouts = [replace(windows, place=torch.arange(space.num_dims)) for windows in layouts]
        codebooks = [
            Codebook(
                windows,
                space.num_states,
                self.components,
                tied=self.tied,
                gate=self.gate,
                features=_num_features(own, windows.members) if self.gate == "features" else 0,
                chain=self.chain,
                rank=self.rank,
            )
            for windows in layouts[: 1 if self.tied else None]
        ]
        return WindowedDenoiser(
            own, param, layouts, codebooks, frozen=self.network == "frozen", balanced=self.balanced
        )

    def fit(
        self, student: nn.Module, data: Dataset, generator: torch.Generator, narrate: Callable[[str], None]
    ) -> None:
        """The codebook's start."""
        assert isinstance(student, WindowedDenoiser)
        for layout, codebook in enumerate(student.codebooks):
            if not codebook.tilts.blank:
                continue  # it came with the weights of an earlier round
            if self.start == "random":
                codebook.tilts.randomize(RANDOM_STD)
            elif isinstance(codebook.coupling, Chain) and self.start == "contexts":
                codebook_fit.fit_contexts(
                    codebook, codebook.coupling, data.train, self.start_windows, generator
                )
            else:
                gain = codebook_fit.fit_mixtures(
                    codebook,
                    student.layouts if self.tied else [student.layouts[layout]],
                    data.train,
                    self.start_rounds,
                    self.start_windows,
                    self.start_smoothing,
                    generator,
                )
                narrate(f"codebook {layout}: {gain:.2f} nats a window over its product law by EM")


def _num_features(network: networks.Network, members: Int[Tensor, "W n"]) -> int:
    """How many numbers the network's features tell of a window."""
    with torch.no_grad():
        h = network.hidden(torch.zeros(1, network.space.num_dims, dtype=torch.long), torch.zeros(1))
    return network.around(h, members).shape[-1]
