"""SEDD's analytic ("Tweedie") step (arXiv 2310.16834; also SDTT's): x_s from its law with x_0 integrated out.

SEDD writes it with scores, p_{s|t}(k | x_t) proportional to (exp(-dsigma Q) score)_k exp(dsigma Q)(k, x_t).
Where the score comes from a denoiser, score_y = E[q_{t|0}(y | x_0) / q_{t|0}(x_t | x_0)], that is
sum_k p(x_0 = k) q_{s|0,t}(. | k, x_t): the law of `ancestral`, here drawn at once instead of by way of x_0.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import samplers
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.product_law import ProductLaw
from di4c_cli.core.sites import Sites


class Analytic(samplers.Sampler):
    """x_s^d ~ sum_k p^d(k) q_{s|0,t}(. | k, x_t^d)."""

    def __init__(self, process: ForwardProcess) -> None:
        self.process = process

    def step(
        self,
        law: ProductLaw,
        x_t: Int[Tensor, "B D"],
        t: float | Float[Tensor, " B"],
        s: float | Float[Tensor, " B"],
        generator: torch.Generator,
        num: int = 1,
    ) -> Int[Tensor, "B {num} D"]:
        t, s = samplers.per_row(t, x_t), samplers.per_row(s, x_t)

        def read(sites: Sites) -> Float[Tensor, "P S"]:
            rows, x = law.table.at(sites)[:, None], sites.at(x_t)[:, None]
            return self.process.log_transition(rows, x, t[sites.row], s[sites.row])[:, 0]

        # Where x_t settles x_0, it settles x_s.
        return ProductLaw(read, law.sites, law.num_states, law.settled).draw(generator, num)


class Config(samplers.Config):
    """Analytic sampling."""

    def build(self, process: ForwardProcess) -> Analytic:
        return Analytic(process)
