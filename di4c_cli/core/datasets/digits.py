"""UCI digits: 1797 grey images of 8x8 pixels, shipped with the package (see digits.LICENSE.txt)."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from di4c_cli.core import datasets
from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.pixels import PixelCodec
from di4c_cli.core.datasets import Dataset, TensorSplit
from di4c_cli.core.datasets._codec import expect
from di4c_cli.errors import DataError, RecipeError

FILE = Path(__file__).with_name("digits.npz")
NUM_TRAIN = 1400
LARGEST = 16  # each value counts the ink of a 4x4 block of the scan


class Config(datasets.Config):
    """1400 images to train on and 397 held out, labelled; the codec sets the grey levels (17 keeps all)."""

    def build(self, codec: Codec) -> Dataset:
        pixels = expect(codec, PixelCodec, "pixels", "digits")
        if pixels.space.shape != (1, 8, 8):
            raise RecipeError("codec: the digits are grey images of 8x8 pixels", "set height = 8, width = 8")
        try:
            with np.load(FILE, allow_pickle=False) as archive:
                images, labels = archive["images"], archive["labels"]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{FILE}: {error}", "reinstall di4c: this file ships with it") from error
        x_0 = pixels.encode(torch.from_numpy(images)[:, None] / LARGEST)
        label = torch.from_numpy(labels).long()
        # The file is shuffled already, so the split is the same under every version of every library.
        return Dataset(
            train=TensorSplit(x_0[:NUM_TRAIN], label[:NUM_TRAIN]),
            test=TensorSplit(x_0[NUM_TRAIN:], label[NUM_TRAIN:]),
        )
