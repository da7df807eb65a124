"""From a network's logits to normalised log p_{0|t}: what may be predicted, given what is seen."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.space import NEVER


def free(
    logits: Float[Tensor, "N d S"], x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"], positions: slice
) -> Float[Tensor, "N d S"]:
    """log-softmax of the logits as they are (tauLDR, MaskGIT)."""
    return _at_least_float32(logits).log_softmax(-1)


def _at_least_float32(logits: Tensor) -> Tensor:
    """Half precision is off by hundredths of a nat at the size of logits; likelihoods add that up."""
    return logits.float() if logits.dtype.itemsize < 4 else logits


class Unmasked:
    """`free` on a process with a mask (MaskGIT): x_0 holds no mask, so none is ever predicted."""

    def __init__(self, mask_id: int) -> None:
        self.mask_id = mask_id

    def __call__(
        self,
        logits: Float[Tensor, "N d S"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        positions: slice,
    ) -> Float[Tensor, "N d S"]:
        logits = _at_least_float32(logits).index_fill(-1, x_t.new_tensor([self.mask_id]), NEVER)
        return free(logits, x_t, t, positions)


class Subs:
    """SUBS (MDLM, Section 3.2.3): never predict the mask; what is visible stays.

    Visible positions get probability exactly 1 on their token, so they add exactly 0 to every loss.
    """

    def __init__(self, mask_id: int) -> None:
        self.mask_id = mask_id
        self.unmasked = Unmasked(mask_id)

    def __call__(
        self,
        logits: Float[Tensor, "N d S"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        positions: slice,
    ) -> Float[Tensor, "N d S"]:
        seen = x_t[:, positions, None]
        log_p = self.unmasked(logits, x_t, t, positions)
        visible = log_p.new_full(log_p.shape, NEVER).scatter(-1, seen, 0.0)
        return log_p.where(seen == self.mask_id, visible)


class BayesSkip:
    """logits + log q_{t|0}(x_t | x_0): the network learns the prior, the process supplies the likelihood.

    Exact where positions are independent, and a strong start elsewhere: the posterior is data prior times
    this likelihood, so near t = 0 the network has nothing left to learn.
    """

    def __init__(self, process: ForwardProcess) -> None:
        self.process = process

    def __call__(
        self,
        logits: Float[Tensor, "N d S"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        positions: slice,
    ) -> Float[Tensor, "N d S"]:
        logits = _at_least_float32(logits)
        return free(
            logits + self.process.log_likelihood(x_t[:, positions], t).to(logits.dtype), x_t, t, positions
        )


def build(name: str, process: ForwardProcess) -> Callable[[Tensor, Tensor, Tensor, slice], Tensor]:
    """The parameterization of that name on a process.

    Raises:
        ValueError: "subs" on a process without a mask.
    """
    mask_id = process.space.mask_id
    if name == "bayes":
        return BayesSkip(process)
    if name == "subs":
        if mask_id is None:
            raise ValueError("parameterization 'subs' needs a process with a mask; use 'free' or 'bayes'")
        return Subs(mask_id)
    return free if mask_id is None or name == "raw" else Unmasked(mask_id)
