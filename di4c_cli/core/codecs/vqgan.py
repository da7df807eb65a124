"""VQGAN tokens: an image is a grid of codes of a convolutional autoencoder (Esser et al. 2021).

The space needs no weights: they are read when the first image is encoded or decoded.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from di4c_cli.core import checkpoints, codecs
from di4c_cli.core.codecs import ImageCodec
from di4c_cli.core.codecs._autoencoder import Architecture, AutoEncoder
from di4c_cli.core.codecs._folder import read_architecture
from di4c_cli.core.space import StateSpace
from di4c_cli.errors import CheckpointError

CHANNELS = 3
PIXELS = 2**19  # of the images that pass at once: eight of 256x256 take about 1 GB
HINT = "make it from a released file: di4c convert last.ckpt --kind vqgan --out FOLDER"


class VQGANCodec(ImageCodec):
    """State k of a position is the k-th code; positions run over the grid row by row."""

    def __init__(self, config: "Config") -> None:
        self.config = config
        self.image_shape = (CHANNELS, config.size, config.size)
        self.space = StateSpace(shape=(1, config.grid, config.grid), num_states=config.num_codes)
        self.at_once = max(1, PIXELS // config.size**2)
        self._model: AutoEncoder | None = None

    def encode(self, images: Float[Tensor, "N C H W"]) -> Int[Tensor, "N D"]:
        """The nearest codes of images in [0, 1], computed where the images lie.

        Raises:
            CheckpointError: there are no weights, or not those of this codec.
        """
        model = self.model(images.device)
        return torch.cat([model.encode(2 * part.float() - 1) for part in images.split(self.at_once)])

    def decode(self, tokens: Int[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        """Images in [0, 1], computed where the tokens lie; a state beyond the codes shows as the last one.

        Raises:
            CheckpointError: there are no weights, or not those of this codec.
        """
        model = self.model(tokens.device)
        codes = tokens.clamp(0, self.config.num_codes - 1)
        parts = [model.decode(part).add_(1).div_(2).clamp_(0, 1) for part in codes.split(self.at_once)]
        return torch.cat(parts)

    def model(self, device: torch.device | str) -> AutoEncoder:
        """The autoencoder on a device, read at the first call."""
        if self._model is None:
            self._model = load(self.config)
        return self._model.to(device)


def load(config: "Config") -> AutoEncoder:
    """The autoencoder of a checkpoint, frozen, on the CPU.

    Raises:
        CheckpointError: missing, damaged, or of other sizes than the recipe's codec.
    """
    folder, stated = read_architecture(config.checkpoint, "vqgan", HINT)
    try:
        architecture = Architecture.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("architecture", *first["loc"]))
        raise CheckpointError(f"{folder / 'config.json'}: {key}: {first['msg']}", HINT) from None
    made = {"num_codes": architecture.n_embed, "grid": architecture.grid, "size": architecture.resolution}
    told = {key: getattr(config, key) for key in made}
    if made != told:
        values = " ".join(f"codec.{key}={value}" for key, value in made.items())
        raise CheckpointError(f"{folder}: not of the recipe's sizes", f"it has {values}")
    if {architecture.in_channels, architecture.out_ch} != {CHANNELS}:
        raise CheckpointError(f"{folder}: not for colour images", HINT)
    with torch.device("meta"):  # sizes come from outside: nothing is allocated before the tensors agree
        model = AutoEncoder(architecture)
    weights = checkpoints.read_like(folder, "model.safetensors", model.state_dict())
    model.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    return model.eval().requires_grad_(False)


class Config(codecs.Config):
    """Square colour images as codes of a VQGAN."""

    checkpoint: str | None = None
    """Folder of the converted weights, also below the runs; needed to encode and to see images only."""
    num_codes: int = Field(1024, ge=2)
    """Codes (S)."""
    grid: int = Field(16, ge=1)
    """Codes a side: D is its square."""
    size: int = Field(256, ge=1)
    """Pixels a side of the images."""

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if self.size % self.grid:
            raise ValueError(f"size = {self.size} is not a multiple of grid = {self.grid}")
        return self

    def build(self) -> VQGANCodec:
        return VQGANCodec(self)
