"""Samples whose codec has no weights at hand: the tokens are worth keeping."""

import numpy as np
import pytest
import torch

from di4c_cli import writing
from di4c_cli.core import progress
from di4c_cli.core.codecs.pixels import Config as Pixels
from di4c_cli.core.codecs.vqgan import Config as VQGAN
from di4c_cli.errors import CheckpointError


def test_npz_holds_tokens_alone_and_says_so(tmp_path):
    codec, tokens, remarks = VQGAN(grid=2, size=32).build(), torch.tensor([[0, 1, 2, 3]]), []
    with progress.reporting(remark=remarks.append):
        (path,) = writing.write_npz(codec, tokens, None, tmp_path / "out")
    with np.load(path) as file:
        assert set(file) == {"tokens"}
        assert file["tokens"].tolist() == tokens.tolist()
    assert len(remarks) == 1 and "tokens alone" in remarks[0] and "di4c convert" in remarks[0]  # noqa: PT018
    with pytest.raises(CheckpointError, match=r"codec\.checkpoint"):  # pictures cannot do without
        writing.write_images(codec, tokens, None, tmp_path / "pictures")


def test_npz_holds_images_where_the_codec_can_show_them(tmp_path):
    codec = Pixels(height=2, width=2, levels=4).build()
    (path,) = writing.write_npz(codec, torch.tensor([[0, 1, 2, 3]]), None, tmp_path / "a.npz")
    with np.load(path) as file:
        assert file["samples"].shape == (1, 1, 2, 2)
