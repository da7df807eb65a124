"""Files from outside the repository: small checkpoints in released layouts, and the released key lists.

Looked for in `$DI4C_GOLDEN`, else in `golden` beside `$DI4C_DATA`, else in `shared/golden` beside the
repository; the key lists are in `spec/keys` beside that. A test that asks for what is not there is skipped.
"""

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor


def _root() -> Path:
    if given := os.environ.get("DI4C_GOLDEN"):
        return Path(given).resolve()
    if data := os.environ.get("DI4C_DATA"):
        beside = Path(data).resolve().parent / "golden"
        if beside.is_dir():
            return beside
    return Path(__file__).resolve().parents[2] / "shared" / "golden"


def golden(name: str) -> Path:
    """The folder of one small checkpoint."""
    path = _root() / name
    if not path.is_dir():
        pytest.skip(f"no golden folder {name} in {path.parent}")
    return path


def expected(name: str) -> dict[str, Tensor]:
    """Inputs and outputs of the small checkpoint, computed by the published code."""
    return load_file(golden(name) / "expected.safetensors")


def keys(name: str) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every tensor of a released file, in the order of registration."""
    path = _root().parent / "spec" / "keys" / f"{name}.keys.txt"
    if not path.is_file():
        pytest.skip(f"no key list {path.name} in {path.parent}")
    rows = re.findall(r"^([^#\s]\S*) \[([\d, ]*)\]$", path.read_text(), re.MULTILINE)
    return [(key, tuple(int(n) for n in shape.split(",") if n.strip())) for key, shape in rows]


def wave(k: int, key: str, shape: tuple[int, ...]) -> Tensor:
    """Weights anyone can make again: tensor number k (from 0, as in the key list) of the full-size outputs.

    0.02 sin(0.1 (n mod 997) + k) at flat index n, in float64; one-dimensional weights get 1 added.
    """
    period = 0.02 * torch.sin(0.1 * torch.arange(997, dtype=torch.float64) + k)
    if len(shape) == 1 and key.endswith("weight"):
        period += 1
    size = torch.Size(shape).numel()
    return period.float().repeat(-(-size // 997))[:size].view(shape)
