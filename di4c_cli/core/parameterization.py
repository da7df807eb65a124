"""From a network's logits to normalised log p_{0|t}: what may be predicted, given what is seen.

A parameterization works site by site: logits (*rows, S) with the state x_t and the time t of each row.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.space import NEVER, at_least_float32


@runtime_checkable
class Parameterization(Protocol):
    def __call__(
        self, logits: Float[Tensor, "*rows S"], x_t: Int[Tensor, "*#rows"], t: Float[Tensor, "*#rows"]
    ) -> Float[Tensor, "*rows S"]:
        """log p(x_0 | x_t). The logits are used up: they may be overwritten."""
        ...

    def open(self, x_t: Int[Tensor, "B D"]) -> Bool[Tensor, "B D"] | None:
        """Where x_t leaves x_0 open; None: everywhere. Elsewhere x_0 = x_t for certain."""
        ...


class Free:
    """log-softmax of the logits as they are (tauLDR, MaskGIT)."""

    def __call__(
        self, logits: Float[Tensor, "*rows S"], x_t: Int[Tensor, "*#rows"], t: Float[Tensor, "*#rows"]
    ) -> Float[Tensor, "*rows S"]:
        return at_least_float32(logits).log_softmax(-1)

    def open(self, x_t: Int[Tensor, "B D"]) -> Bool[Tensor, "B D"] | None:
        return None


class Unmasked(Free):
    """`Free` on a process with a mask, which x_0 never holds: none is predicted. MaskGIT's teacher's."""

    def __init__(self, mask_id: int) -> None:
        self.mask_id = mask_id

    def __call__(
        self, logits: Float[Tensor, "*rows S"], x_t: Int[Tensor, "*#rows"], t: Float[Tensor, "*#rows"]
    ) -> Float[Tensor, "*rows S"]:
        logits = at_least_float32(logits)
        logits.select(-1, self.mask_id).fill_(NEVER)
        return logits.log_softmax(-1)


class Subs:
    """SUBS (MDLM, Section 3.2.3): never predict the mask; what is visible stays.

    Visible positions get probability exactly 1 on their token, so they add exactly 0 to every loss.
    """

    def __init__(self, mask_id: int) -> None:
        self.mask_id = mask_id

    def __call__(
        self, logits: Float[Tensor, "*rows S"], x_t: Int[Tensor, "*#rows"], t: Float[Tensor, "*#rows"]
    ) -> Float[Tensor, "*rows S"]:
        logits = at_least_float32(logits)
        visible = x_t != self.mask_id
        # One write at x_t does both: where that is the mask, the mask is ruled out.
        settled = logits.new_full(visible.shape, NEVER).masked_fill(visible, 0.0)
        logits.masked_fill_(visible[..., None], NEVER)
        seen = x_t[..., None].expand(*logits.shape[:-1], 1)
        return logits.scatter_(-1, seen, settled[..., None].expand_as(seen)).log_softmax(-1)

    def open(self, x_t: Int[Tensor, "B D"]) -> Bool[Tensor, "B D"] | None:
        return x_t == self.mask_id


class BayesSkip:
    """logits + log q_{t|0}(x_t | x_0): the network learns the prior, the process supplies the likelihood.

    Exact where positions are independent, and a strong start elsewhere: the posterior is data prior times
    this likelihood, so near t = 0 the network has nothing left to learn.
    """

    def __init__(self, process: ForwardProcess) -> None:
        self.process = process

    def __call__(
        self, logits: Float[Tensor, "*rows S"], x_t: Int[Tensor, "*#rows"], t: Float[Tensor, "*#rows"]
    ) -> Float[Tensor, "*rows S"]:
        logits = at_least_float32(logits)
        times = torch.broadcast_to(t, x_t.shape).flatten()
        skip = self.process.log_likelihood(x_t.flatten()[:, None], times).view(*x_t.shape, logits.shape[-1])
        return (logits + skip.to(logits.dtype)).log_softmax(-1)

    def open(self, x_t: Int[Tensor, "B D"]) -> Bool[Tensor, "B D"] | None:
        return self.process.open(x_t)


def build(name: str, process: ForwardProcess, *, everywhere: bool = False) -> Parameterization:
    """The parameterization of that name on a process.

    On a process with a mask a free network is not asked about what is visible: samplers leave it as it is, so
    a law that said otherwise would not be the one that is sampled. `raw` is, in the published losses.

    Args:
        everywhere: it is asked all the same, as where MaskGIT's teacher is trained.

    Raises:
        ValueError: "subs" on a process without a mask.
    """
    mask_id = process.space.mask_id
    if name == "bayes":
        return BayesSkip(process)
    if name == "subs" and mask_id is None:
        raise ValueError("parameterization 'subs' needs a process with a mask; use 'free' or 'bayes'")
    if name == "raw" or mask_id is None:
        return Free()
    return Unmasked(mask_id) if name == "free" and everywhere else Subs(mask_id)
