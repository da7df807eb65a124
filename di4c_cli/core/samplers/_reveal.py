"""Revealing a given number of masked positions, the best ranked first."""

import torch
from jaxtyping import Bool, Float, Int
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


def best_ranked(
    masked: Bool[Tensor, "N D"], rank_by: Float[Tensor, "N D"], num: Int[Tensor, " N"]
) -> Bool[Tensor, "N D"]:
    """The `num` masked positions of highest `rank_by`."""
    order = rank_by.masked_fill(~masked, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(
        -1, order, torch.arange(masked.shape[1], device=masked.device).expand_as(order)
    )
    return masked & (place < num[:, None])
