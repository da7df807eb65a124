"""Windows: a partition of the positions, each part of which shares one discrete component.

Runs of text, patches of images. A layout may be shifted, so that no boundary between windows is there in
every step; windows at the edge are then cut.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """W windows over D positions, in the order in which they follow each other."""

    window: Int[Tensor, " D"]
    """Which window a position is in."""
    place: Int[Tensor, " D"]
    """Which place of the codebook's tables belongs to a position."""
    members: Int[Tensor, "W n"]
    """The positions of each window by their offset in it; -1 where the edge cuts it."""

    @property
    def num(self) -> int:
        """W."""
        return len(self.members)

    @property
    def num_dims(self) -> int:
        """D."""
        return len(self.window)

    def to(self, device: torch.device | str) -> "Windows":
        return Windows(self.window.to(device), self.place.to(device), self.members.to(device))


def tiled(shape: tuple[int, ...], size: tuple[int, ...], shift: tuple[int, ...]) -> Windows:
    """Windows of `size` that tile a grid; place is the offset in a window.

    Args:
        shape: the grid of positions as in `StateSpace`: (length,) of text, (channels, height, width) of
            images, whose channels lie in one window.
        size: (length,) or (height, width).
        shift: how far the tiling is moved back along each side, less than `size`.

    Raises:
        ValueError: a size that does not go with the grid.
    """
    channels, sides = (1, shape) if len(shape) == 1 else (shape[0], shape[1:])
    if len(size) != len(sides) or any(n > side for n, side in zip(size, sides, strict=True)):
        raise ValueError(f"a window of {_times(size)} does not fit positions of {_times(sides)}")
    starts = [range(-back, side, n) for side, n, back in zip(sides, size, shift, strict=True)]
    position = torch.arange(math.prod(shape)).view(channels, *sides)
    members = []
    for corner in itertools.product(*starts):
        offsets = itertools.product(range(channels), *[range(n) for n in size])
        members.append([_at(position, corner, offset) for offset in offsets])
    rows = torch.tensor([row for row in members if any(place >= 0 for place in row)])
    window, place = (
        torch.empty(position.numel(), dtype=torch.long),
        torch.empty(position.numel(), dtype=torch.long),
    )
    w, o = (rows >= 0).nonzero(as_tuple=True)
    window[rows[w, o]], place[rows[w, o]] = w, o
    return Windows(window, place, rows)


def _at(position: Int[Tensor, "C ..."], corner: tuple[int, ...], offset: tuple[int, ...]) -> int:
    """The position at an offset (channel first) from a window's corner; -1 beyond the edge."""
    channel, index = offset[0], [c + o for c, o in zip(corner, offset[1:], strict=True)]
    inside = all(0 <= i < side for i, side in zip(index, position.shape[1:], strict=True))
    return int(position[(channel, *index)]) if inside else -1


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in sizes)
