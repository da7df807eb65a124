"""The perfect teacher of an enumerable joint: exact posterior marginals p(x_0^d | x_t) by Bayes' rule."""

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import networks, teachers
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.denoiser import ProductDenoiser
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.space import NEVER


class ExactDenoiser(ProductDenoiser):
    """What an infinitely trained product model would predict."""

    def __init__(self, process: ForwardProcess, joint: Float[Tensor, "*states"]) -> None:
        self.process = process
        S_data, D = joint.shape[0], joint.dim()
        self.states = torch.cartesian_prod(*[torch.arange(S_data)] * D).view(-1, D)
        self.log_prior = joint.flatten().log()
        self.one_hot = torch.nn.functional.one_hot(self.states, process.space.num_states).double().flatten(1)

    def __call__(
        self,
        x_t: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        label: Int[Tensor, " B"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> ProductLaw:
        D = x_t.shape[1]
        log_likelihood = self.process.log_likelihood(x_t, t).cpu()  # (B, D, S); the table lives on the CPU
        positions = torch.arange(D)
        log_w = self.log_prior + log_likelihood[:, positions, self.states].sum(-1)
        p = (log_w.softmax(-1) @ self.one_hot).unflatten(-1, (D, -1))
        # A product sampler reaches points that no x_0 leads to; there each position answers for itself.
        possible = (log_w.amax(-1) > NEVER / 2)[:, None, None]
        p = torch.where(possible, p, log_likelihood.softmax(-1))
        return ProductLaw.dense(p.log().clamp(min=NEVER).to(x_t.device))


class Config(teachers.Config):
    """Exact posterior marginals."""

    trained: ClassVar[bool] = False

    def build(
        self,
        process: ForwardProcess,
        network: networks.Config | None,
        dataset: Dataset | None,
        checkpoint: Path | None,
    ) -> ExactDenoiser:
        if dataset is None or dataset.joint is None:
            raise ValueError("teacher 'exact' needs a data set with an enumerable joint, such as 'toy'")
        return ExactDenoiser(process, dataset.joint)
