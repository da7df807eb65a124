"""Images of one size on their way to a codec: block means and flips."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor
from torch.nn import functional as F

from di4c_cli.core.codecs import ImageCodec
from di4c_cli.core.codecs.pixels import PixelCodec
from di4c_cli.core.datasets import Split, TensorSplit, compact
from di4c_cli.core.space import Batch

AT_ONCE = 1000  # images that are floats at the same time


def block_means(images: UInt8[Tensor, "N C H W"], size: tuple[int, ...]) -> Float[Tensor, "N C h w"]:
    """Images in [0, 1], reduced by whole factors."""
    height, width = images.shape[-2:]
    return F.avg_pool2d(images.float() / 255, (height // size[0], width // size[1]))


def encode(images: UInt8[Tensor, "N C H W"], codec: ImageCodec) -> Integer[Tensor, "N D"]:
    """Tokens of images whose sides are whole multiples of the codec's."""
    size = codec.image_shape[1:]
    parts = [codec.encode(block_means(part, size)) for part in images.split(AT_ONCE)]
    return torch.cat([compact(part, codec.space.num_states) for part in parts])


@dataclass(frozen=True)
class FlippedSplit:
    """A split of pixels and, as its second half, their mirror images; nothing is stored twice."""

    split: Split
    shape: tuple[int, int, int]
    """(C, H, W) of the positions."""

    def __len__(self) -> int:
        return 2 * len(self.split)

    def __getitem__(self, index: Int[Tensor, " B"]) -> Batch:
        batch = self.split[index % len(self.split)]
        mirrored = batch.x_0.view(-1, *self.shape).flip(-1).flatten(1)
        return Batch(torch.where((index >= len(self.split))[:, None], mirrored, batch.x_0), batch.label)


def with_flips(plain: TensorSplit, images: UInt8[Tensor, "N C H W"], codec: ImageCodec) -> Split:
    """The tokens of images and, as the second half, those of their mirror images."""
    if isinstance(codec, PixelCodec):
        return FlippedSplit(plain, codec.image_shape)
    # Codes of a mirror image are not the mirrored codes.
    mirrored = encode(images.flip(-1), codec)
    return TensorSplit(
        torch.cat([plain.x_0, mirrored]), None if plain.label is None else plain.label.repeat(2)
    )
