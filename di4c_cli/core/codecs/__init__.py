"""Codecs: what a state means. A codec turns data into tokens and back; it needs no data set on disk.

A file `<kind>.py` holds `Config(codecs.Config)` with `build() -> Codec`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.space import StateSpace


class Codec(ABC):
    """Tokens (N, D) against images or strings."""

    space: StateSpace
    """The states of data, without a mask."""
    modality: ClassVar[str]
    """ "image" or "text": which previews make sense, and which metrics."""
    noun: ClassVar[str]
    """What one sample is, "image", "text" or a kind of text: it chooses file formats and is a key in them."""

    @abstractmethod
    def decode(self, tokens: Int[Tensor, "N D"]) -> Any:
        """Images as floats (N, C, H, W) in [0, 1], or text as a list of N strings."""


class ImageCodec(Codec):
    """A codec of images of one size."""

    modality: ClassVar[str] = "image"
    noun: ClassVar[str] = "image"
    image_shape: tuple[int, int, int]
    """(C, H, W) of the images, which need not be the grid of tokens."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "N C H W"]) -> Int[Tensor, "N D"]:
        """Tokens of images in [0, 1]."""


class TextCodec(Codec):
    """A codec of running text."""

    modality: ClassVar[str] = "text"
    noun: ClassVar[str] = "text"
    document_end: int | None = None
    """The token between documents, where there is one."""

    @abstractmethod
    def tokenize(self, text: str) -> Int[Tensor, " n"]:
        """Tokens of a text of any length, without padding.

        Raises:
            ValueError: a character that has no token.
        """


class Config(_Config, ABC):
    """What every codec is told: nothing yet."""

    @abstractmethod
    def build(self) -> Codec:
        """The component that this section describes."""


@dataclass(frozen=True)
class Fit:
    """What a codec has learned: enough for its checkpoint folder."""

    architecture: dict[str, Any]
    """The sizes that config.json states."""
    tensors: dict[str, Tensor]
    """The content of model.safetensors."""
    facts: dict[str, float]
    """How well it fits, by name."""


class LearnedConfig(Config, ABC):
    """A codec whose checkpoint `di4c train-codec` makes from the images of a data set."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images it is fitted to."""

    @abstractmethod
    def fit(self, images: Float[Tensor, "N C H W"], seed: int) -> Fit:
        """The codec of these images in [0, 1].

        Raises:
            ValueError: too few of them.
        """
