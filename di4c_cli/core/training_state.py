"""What a resume needs beyond the weights: moments, counters, and a teacher that was promoted."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def pack(
    names: Sequence[str],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    counters: Mapping[str, int | float],
    teacher: object,
) -> dict[str, Tensor]:
    """One flat dictionary; `teacher` is None where it never changes."""
    state = {
        f"{key}/{name}": value
        for name, p in zip(names, parameters, strict=True)
        for key, value in (optimizer.state[p] or untouched(p)).items()
    }
    if isinstance(teacher, nn.Module):
        state |= {f"teacher/{name}": value for name, value in teacher.state_dict().items()}
    return state | {f"counter/{k}": torch.tensor(v, dtype=torch.float64) for k, v in counters.items()}


def unpack(
    state: Mapping[str, Tensor],
    names: Sequence[str],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    teacher: object,
) -> None:
    """The optimiser and a promoted teacher as they were; the caller reads the counters."""
    for name, p in zip(names, parameters, strict=True):
        optimizer.state[p] = {key: state[f"{key}/{name}"].to(p.device) for key in untouched(p)}
    if isinstance(teacher, nn.Module):
        teacher.load_state_dict({name: state[f"teacher/{name}"] for name in teacher.state_dict()})


def nbytes(model: nn.Module, teacher: object) -> tuple[int, int]:
    """Bytes of a resumable checkpoint, and of a final one: weights, their average, and what `pack` gives."""
    weights = sum(value.nbytes for value in model.state_dict().values())
    moments = 2 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
    promoted = sum(v.nbytes for v in teacher.state_dict().values()) if isinstance(teacher, nn.Module) else 0
    return 2 * weights + moments + promoted, 2 * weights


def untouched(p: Tensor) -> dict[str, Tensor]:
    """AdamW's state of a parameter that never had a gradient."""
    return {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}


def same_network(student: nn.Module, teacher: object) -> nn.Module:
    """The teacher, known to be the student's network: it can take its weights.

    Raises:
        ValueError: it is another.
    """
    if not isinstance(teacher, nn.Module) or _shapes(teacher) != _shapes(student):
        raise ValueError("the student can become the teacher only where both are the same network")
    return teacher


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}
