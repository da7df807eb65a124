"""The structured student: a discrete component for each window of positions, summed exactly."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor, nn

from di4c_cli.core import codebook_fit, networks, parameterization, students
from di4c_cli.core.codebook import Codebook, GateKind
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.windowed_denoiser import WindowedDenoiser
from di4c_cli.core.windows import tiled

RANDOM_STD = 0.5  # of a codebook that starts without data


class Config(students.Config):
    """Mixture with one component for each window."""

    window: list[int] = Field([8], min_length=1, max_length=2)
    """Positions of a window: [length] of text, [height, width] of images."""
    layouts: int = Field(2, ge=1)
    """Tilings that alternate from step to step, each moved on by that part of a window."""
    components: int = Field(256, ge=1)
    """M: components of a window; a step gains at most log(M) nats for each of them."""
    tied: bool = True
    """Whether windows share their tables, as in text; else every position has its own, as in images."""
    gate: GateKind = "features"
    """What weighs the components: a prior; also what is visible in the window; also a network on features."""
    chain: bool = False
    """Whether windows are coupled to their neighbours, a hidden Markov chain."""
    network: Literal["frozen", "trained"] = "frozen"
    """Whether the teacher's network stays as it is, or learns along."""
    em_rounds: int = Field(10, ge=0)
    """Rounds of expectation-maximisation that the codebook starts from; 0: it starts at random."""
    em_windows: int = Field(100_000, ge=1)
    """Windows of training data that it is fitted to."""
    em_smoothing: float = Field(1.0, gt=0)
    """Windows of the marginal law that each component is given on top of its own."""

    def build(self, network: networks.Config, process: ForwardProcess) -> WindowedDenoiser:
        """Raises ValueError for windows or a gate that do not go with the positions or the process."""
        space, own = process.space, network.build(process.space, lam=False)
        param = parameterization.build(network.parameterization, process)
        size = tuple(self.window)
        shifts = [tuple(n * k // self.layouts for n in size) for k in range(self.layouts)]
        layouts = [tiled(space.shape, size, shift) for shift in shifts]
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
            )
            for windows in layouts[: 1 if self.tied else None]
        ]
        return WindowedDenoiser(own, param, layouts, codebooks, frozen=self.network == "frozen")

    def fit(
        self, student: nn.Module, data: Dataset, generator: torch.Generator, narrate: Callable[[str], None]
    ) -> None:
        """The codebook by expectation-maximisation, or at random without rounds of it."""
        assert isinstance(student, WindowedDenoiser)
        for layout, codebook in enumerate(student.lam_codebooks):
            assert isinstance(codebook, Codebook)
            if self.em_rounds == 0:
                nn.init.normal_(codebook.tilts, std=RANDOM_STD)
                continue
            layouts = student.layouts if self.tied else [student.layouts[layout]]
            gain = codebook_fit.fit(
                codebook, layouts, data.train, self.em_rounds, self.em_windows, self.em_smoothing, generator
            )
            narrate(f"codebook {layout}: {gain:.2f} nats a window over its product law, by {self.components}")


def _num_features(network: networks.Network, members: Int[Tensor, "W n"]) -> int:
    """How many numbers the network's features tell of a window."""
    with torch.no_grad():
        h = network.hidden(torch.zeros(1, network.space.num_dims, dtype=torch.long), torch.zeros(1))
    return network.around(h, members).shape[-1]
