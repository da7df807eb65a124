"""Revealing a given number of masked positions, the best ranked first."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.processes.masked import MaskedProcess


def masked_process(process: ForwardProcess, sampler: str) -> MaskedProcess:
    """The process, known to have a mask.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(process, MaskedProcess):
        raise ValueError(f"sampler '{sampler}' needs a process with a mask; use 'ancestral'")
    return process


def reveal(
    x_0: Int[Tensor, "N D"],
    x_t: Int[Tensor, "N D"],
    rank_by: Float[Tensor, "N D"],
    num: Int[Tensor, " N"],
    mask_id: int,
) -> Int[Tensor, "N D"]:
    """x_t with the `num` masked positions of highest `rank_by` taken from x_0."""
    masked = x_t == mask_id
    order = rank_by.masked_fill(~masked, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(
        -1, order, torch.arange(x_t.shape[1], device=x_t.device).expand_as(order)
    )
    return torch.where(masked & (place < num[:, None]), x_0, x_t)
