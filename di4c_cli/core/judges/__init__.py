"""Judges: language models that tell how likely a text is, by which generative perplexity is measured.

A file `<kind>.py` holds `Config(judges.Config)` with `build(dataset, codec, cache, device) -> Judge`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.datasets import Dataset


@runtime_checkable
class Judge(Protocol):
    """A model of text, read from left to right."""

    name: str
    """Kind, size, precision and hash in one line: judges of equal names say the same of every text."""

    def nats(self, rows: Int[Tensor, "N D"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """-log p of each row, every token given those before it in the row, and how many tokens that were.

        The tokens are the judge's own, of which a row may have another number than D.
        """


class Config(_Config, ABC):
    """What every judge is told: nothing yet."""

    def check(self) -> None:
        """Called before anything is trained.

        Raises:
            ValueError: it lacks a package.
        """

    @abstractmethod
    def build(self, dataset: Dataset, codec: TextCodec, cache: Path, device: torch.device | str) -> Judge:
        """The judge of texts of a data set.

        Args:
            cache: the folder where trained judges are kept.
            device: where it computes, if it is a network.
        """


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The first 12 hex digits of the sha256 of tensors: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        # As bytes: numpy knows no bfloat16.
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
