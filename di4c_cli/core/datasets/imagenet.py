"""Pictures of any size in one folder a class, such as ImageNet, as tokens in a memory-mapped cache."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt
from torch import Tensor

from di4c_cli.core import datasets
from di4c_cli.core.codecs import Codec, ImageCodec
from di4c_cli.core.datasets import MOST_IMAGES, Dataset, data_root, spread_index
from di4c_cli.core.datasets._cache import Shard, cached
from di4c_cli.core.datasets._codec import expect_images, identity
from di4c_cli.core.datasets._header import Spec
from di4c_cli.core.datasets._mapped import MappedSplit
from di4c_cli.core.datasets._pictures import HINT, Picture, Pictures
from di4c_cli.core.progress import report
from di4c_cli.errors import DataError, RecipeError

SHARD_IMAGES = 4096  # a few seconds on a GPU, some minutes on a CPU: the most that a kill loses
MOST_VALUES = 2**28  # of the images that a codebook is fitted to: 1 GiB


class Config(datasets.ImageConfig):
    """Pictures resized and cut to the codec's size (the middle), tokenised once into a cache below the runs.

    Classes are numbered by folder name. Pictures that cannot be read are left out and told of at the end.
    Files are known by name: other content under the same names is not noticed.
    """

    path: str | None = None
    """Folder of class folders to train on; unset: $DI4C_DATA/imagenet/train."""
    test_path: str | None = None
    """The same for held-out pictures; unset: the folder `val` beside `path`, if there is one."""
    held_out: float = Field(0.02, gt=0, lt=1)
    """The share of each class, the last files by name, that is held out where there is no such folder."""
    flips: bool = True
    """Every training picture also mirrored."""

    def build(self, codec: Codec) -> Dataset:
        image_codec = expect_images(codec, "vqgan", "imagenet")
        _check(image_codec.image_shape)
        train, test = self._pictures()
        return Dataset(
            train=_tokens("imagenet-train", train, image_codec, flips=self.flips),
            test=_tokens("imagenet-test", test, image_codec, flips=False),
        )

    def images(self, image_shape: tuple[int, int, int]) -> Float[Tensor, "N C H W"]:
        """See the base class; at most 1 GiB of them."""
        _check(image_shape)
        train, _ = self._pictures()
        num = min(MOST_IMAGES, MOST_VALUES // math.prod(image_shape))
        few = train.chosen(spread_index(len(train), num).numpy())
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            read = [picture for part in few.read(0, len(few), image_shape, pool) for picture in part]
        whole = [picture for picture in read if picture is not None]
        if not whole:
            raise DataError(f"{train.root}: none of its pictures can be read", HINT)
        return _floats(whole)

    def _pictures(self) -> tuple[Pictures, Pictures]:
        """To train on, and held out."""
        root = data_root()
        if self.path is None and root is None:
            raise DataError("imagenet: neither dataset.path nor $DI4C_DATA is set", HINT)
        path = Path(self.path).expanduser() if self.path else Path(root or "") / "imagenet" / "train"
        pictures = Pictures.find(path)
        beside = Path(self.test_path).expanduser() if self.test_path else path.parent / "val"
        if not self.test_path and not beside.is_dir():
            return pictures.divided(self.held_out)
        test = Pictures.find(beside)
        if test.classes != pictures.classes:
            raise DataError(f"{beside}: not the class folders of {path}", "give both the same names")
        return pictures, test


def _check(image_shape: tuple[int, int, int]) -> None:
    if image_shape[0] not in (1, 3):
        raise RecipeError("codec: pictures have 1 or 3 channels", "set channels = 3")


def _floats(pictures: list[Picture]) -> Float[Tensor, "N C H W"]:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _tokens(name: str, pictures: Pictures, codec: ImageCodec, *, flips: bool) -> MappedSplit:
    spec = Spec(
        name=name,
        key={"flips": flips, "codec": identity(codec), "source": pictures.identity()},
        width=codec.space.num_dims,
        num_states=codec.space.num_states,
        num_labels=len(pictures.classes),
        state=NonNegativeInt,
    )
    return cached(spec, partial(_shards, name, pictures, codec, flips))


def _shards(
    name: str, pictures: Pictures, codec: ImageCodec, flips: bool, state: int | None
) -> Iterator[Shard]:
    """Shards of `SHARD_IMAGES` files from a number on; in each the pictures, then their mirror images.

    Raises:
        DataError: most pictures of a shard cannot be read.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for begin in range(state or 0, len(pictures), SHARD_IMAGES):
            end = min(begin + SHARD_IMAGES, len(pictures))
            tokens: list[Tensor] = []
            mirrored: list[Tensor] = []
            there: list[bool] = []
            for part in pictures.read(begin, end, codec.image_shape, pool):
                there += [picture is not None for picture in part]
                whole = [picture for picture in part if picture is not None]
                if whole:
                    images = _floats(whole).to(device)
                    tokens.append(codec.encode(images).cpu())
                    mirrored += [codec.encode(images.flip(-1)).cpu()] if flips else []
                report(begin + len(there), len(pictures), f"{name}: encoding")
            skipped = [
                name for name, whole in zip(pictures.files[begin:end], there, strict=True) if not whole
            ]
            if 2 * len(skipped) > len(there):
                share = f"{len(skipped)} of {len(there)}"
                raise DataError(
                    f"{pictures.root}: {share} pictures are damaged, such as {skipped[0]}",
                    "remove them, or repair the folder; what is done is kept",
                )
            label = np.array(pictures.label[begin:end])[there]
            rows = torch.cat(tokens + mirrored).numpy()
            yield Shard(rows, np.tile(label, 1 + flips), state=end, skipped=skipped)
