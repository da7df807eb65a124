"""Patch tokens: an image is a grid of square patches, each the nearest of a codebook found by k-means.

The space needs no codebook: it is read when the first image is encoded or decoded.
"""

import torch
from jaxtyping import Float, Int, Num
from pydantic import Field, model_validator
from torch import Tensor

from di4c_cli.core import checkpoints, codecs
from di4c_cli.core.codecs import Fit, ImageCodec
from di4c_cli.core.codecs._folder import read_architecture
from di4c_cli.core.codecs._kmeans import kmeans
from di4c_cli.core.codecs._nearest import nearest
from di4c_cli.core.space import StateSpace
from di4c_cli.errors import CheckpointError

HINT = "fit it to the images of a recipe: di4c train-codec RECIPE --out FOLDER"


class PatchCodec(ImageCodec):
    """State k of a position is the k-th patch of the codebook, dark to bright; positions run row by row."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.image_shape = config.image_shape
        self.grid = (config.height // config.patch, config.width // config.patch)
        self.space = StateSpace(shape=(1, *self.grid), num_states=config.num_codes)
        self._codebook: Tensor | None = None

    def encode(self, images: Float[Tensor, "N C H W"]) -> Int[Tensor, "N D"]:
        """The nearest patches (L2) to those of images in [0, 1].

        Raises:
            CheckpointError: there is no codebook, or not that of this codec.
        """
        patches = cut(images, self.config.patch)
        return nearest(patches, self.codebook(images.device).flatten(1)).view(-1, self.space.num_dims)

    def decode(self, tokens: Int[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        """Images in [0, 1], the patches side by side.

        Raises:
            CheckpointError: there is no codebook, or not that of this codec.
        """
        patches = self.codebook(tokens.device)[tokens.unflatten(1, self.grid)]  # (N, rows, columns, C, p, p)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), *self.image_shape)

    def codebook(self, device: torch.device | str) -> Float[Tensor, "S C p p"]:
        """The patches on a device, read at the first call."""
        if self._codebook is None:
            self._codebook = load(self.config)
        return self._codebook.to(device)


def cut(images: Num[Tensor, "N C H W"], patch: int) -> Num[Tensor, "n P"]:
    """The p x p patches of every image, row by row, each as C p p numbers."""
    windows = images.unfold(2, patch, patch).unfold(3, patch, patch)  # (N, C, rows, columns, p, p)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)


def load(config: "Config") -> Float[Tensor, "S C p p"]:
    """The codebook of a checkpoint.

    Raises:
        CheckpointError: missing, damaged, or of other sizes than the recipe's codec.
    """
    folder, made = read_architecture(config.checkpoint, "patches", HINT)
    if made != config.architecture:
        differing = [f"{key} {made.get(key)!r} for {value}" for key, value in config.architecture.items()
                     if made.get(key) != value] or ["unknown sizes"]  # fmt: skip
        raise CheckpointError(f"{folder}: not of the recipe's sizes: {', '.join(differing)}", HINT)
    side = (config.channels, config.patch, config.patch)
    wanted = {"codebook": torch.empty(config.num_codes, *side, device="meta")}
    return checkpoints.read_like(folder, "model.safetensors", wanted)["codebook"].float()


class Config(codecs.LearnedConfig):
    """Images of one size, as patches of a codebook."""

    height: int = Field(ge=1)
    """Rows, in pixels."""
    width: int = Field(ge=1)
    """Columns, in pixels."""
    channels: int = Field(1, ge=1)
    """1 for grey, 3 for colour."""
    patch: int = Field(4, ge=1)
    """Pixels a side of a patch; it divides height and width."""
    num_codes: int = Field(64, ge=2)
    """Patches in the codebook (S)."""
    checkpoint: str
    """Folder of the codebook, also below the runs or shipped; needed to encode and to see images only."""

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if self.height % self.patch or self.width % self.patch:
            raise ValueError(f"patch = {self.patch} does not divide {self.height}x{self.width} pixels")
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.channels, self.height, self.width)

    @property
    def architecture(self) -> dict[str, int]:
        """What shapes the codebook; it fits images of any size."""
        return {"channels": self.channels, "patch": self.patch, "num_codes": self.num_codes}

    def build(self) -> PatchCodec:
        return PatchCodec(self)

    def fit(self, images: Float[Tensor, "N C H W"], seed: int) -> Fit:
        """k-means over all patches, in whole grey levels of 255, so that a seed gives the same everywhere.

        Raises:
            ValueError: fewer different patches than codes.
        """
        levels = (images * 255).round().to(torch.uint8)
        generator = torch.Generator().manual_seed(seed)
        centres, error = kmeans(cut(levels, self.patch), self.num_codes, generator)
        codebook = (centres / 255).float().view(-1, self.channels, self.patch, self.patch)
        return Fit(self.architecture, {"codebook": codebook}, {"mse": error / 255**2})
