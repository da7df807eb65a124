"""Codecs: what a state means. A codec turns data into tokens and back; it needs no data set on disk.

A file `<kind>.py` holds `Config(codecs.Config)` with `build() -> Codec`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import StateSpace


class Codec(ABC):
    """Tokens (N, D) against images or strings."""

    space: StateSpace
    """The states of data, without a mask."""
    modality: ClassVar[str]
    """ "image" or "text": which file formats and previews make sense."""

    @abstractmethod
    def decode(self, tokens: Int[Tensor, "N D"]) -> Any:
        """Images as floats (N, C, H, W) in [0, 1], or text as a list of N strings."""


class Config(_Config, ABC):
    """What every codec is told: nothing yet."""

    @abstractmethod
    def build(self) -> Codec:
        """The component that this section describes."""
