"""Noise schedules: the share m(t) of positions that are corrupted at time t, whatever that means."""

import math
from typing import Literal

import torch
from torch import Tensor

Schedule = Literal["linear", "loglinear", "arccos", "cosine"]
LOGLINEAR_EPS = 1e-3  # MDLM: alpha_1 = 1e-3


def corrupted(schedule: Schedule, t: Tensor) -> Tensor:
    """m(t): linear t; loglinear (1 - eps) t; arccos and cosine as MaskGIT's at progress r = 1 - t."""
    t = t.double()
    match schedule:
        case "linear":
            return t
        case "loglinear":
            return (1 - LOGLINEAR_EPS) * t
        case "arccos":
            return torch.arccos(1 - t) * (2 / math.pi)
        case "cosine":
            return torch.sin(t * (math.pi / 2))


def rate(schedule: Schedule, t: Tensor) -> Tensor:
    """dm/dt."""
    t = t.double()
    match schedule:
        case "linear":
            return torch.ones_like(t)
        case "loglinear":
            return torch.full_like(t, 1 - LOGLINEAR_EPS)
        case "arccos":
            return (2 / math.pi) / (t * (2 - t)).sqrt()
        case "cosine":
            return (math.pi / 2) * torch.cos(t * (math.pi / 2))
