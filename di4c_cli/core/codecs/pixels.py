"""Pixels: grey or colour values in [0, 1], quantised to equal levels."""

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import codecs
from di4c_cli.core.codecs import ImageCodec
from di4c_cli.core.space import StateSpace


class PixelCodec(ImageCodec):
    """State k of a position is the k-th of `levels` equal bins of [0, 1]; positions run over (C, H, W)."""

    def __init__(self, shape: tuple[int, int, int], levels: int) -> None:
        self.image_shape = shape
        self.space = StateSpace(shape=shape, num_states=levels)
        self.levels = levels

    def encode(self, images: Float[Tensor, "N C H W"]) -> Int[Tensor, "N D"]:
        """min(floor(x * levels), levels - 1) of images in [0, 1]."""
        return (images * self.levels).long().clamp_(0, self.levels - 1).flatten(1)

    def decode(self, tokens: Int[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        """Images in [0, 1]: the lowest level is black, the highest white."""
        images = tokens.to(torch.float32) / (self.levels - 1)
        return images.view(-1, *self.space.shape)


class Config(codecs.Config):
    """Images of one size."""

    height: int = Field(ge=1)
    """Rows, in pixels."""
    width: int = Field(ge=1)
    """Columns, in pixels."""
    channels: int = Field(1, ge=1)
    """1 for grey, 3 for colour."""
    levels: int = Field(ge=2, le=256)
    """Values of one pixel (S)."""

    def build(self) -> PixelCodec:
        return PixelCodec((self.channels, self.height, self.width), self.levels)
