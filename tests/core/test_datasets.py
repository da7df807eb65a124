"""Data sets: splits, exact joints, and one-line errors for what is missing or damaged."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from di4c_cli.core.codecs import characters, pixels, states
from di4c_cli.core.datasets import (
    TensorSplit,
    between,
    compact,
    digits,
    mnist,
    spread,
    spread_index,
    toy,
    words,
)
from di4c_cli.errors import DataError, RecipeError

DATA = Path(os.environ.get("DI4C_DATA") or "missing")


def eight_by_eight(levels):
    return pixels.Config(height=8, width=8, levels=levels).build()


# splits


@pytest.mark.parametrize(("num_states", "size"), [(256, 1), (257, 2), (2**15, 2), (2**15 + 1, 4)])
def test_small_types_hold_all_states_and_batches_are_int64(num_states, size):
    tokens = torch.tensor([[0, num_states - 1], [1, 2], [3, 4]])
    split = TensorSplit(compact(tokens, num_states), torch.tensor([5, 6, 7]))
    assert split.x_0.element_size() == size
    batch = split.part(0, 2)[torch.tensor([1, 0])]
    assert batch.x_0.dtype == torch.int64
    assert batch.x_0.tolist() == [[1, 2], [0, num_states - 1]]
    assert batch.label.tolist() == [6, 5]


def test_spread_reaches_from_end_to_end():
    split = TensorSplit(torch.arange(10)[:, None])
    assert spread(split, 4).x_0.flatten().tolist() == [0, 3, 6, 9]
    assert spread(split, 40).x_0.flatten().tolist() == list(range(10))
    for size in (2**24 + 4, 2**31):  # beyond whole numbers in float32
        assert spread_index(size, 3).tolist()[0] == 0
        assert size - 2 <= spread_index(size, 3).tolist()[-1] < size


def test_points_between_are_for_the_most_part_others():
    split = TensorSplit(torch.arange(10_000)[:, None])
    chosen, judged = (set(of(split, 400).x_0.flatten().tolist()) for of in (between, spread))
    assert len(chosen) == 400
    assert len(chosen & judged) < 20
    assert min(chosen) < 20 < 9_980 < max(chosen)
    few = TensorSplit(torch.arange(10)[:, None])
    assert between(few, 9).x_0.flatten().tolist() == spread(few, 9).x_0.flatten().tolist()


# digits


def test_digits_ship_complete_and_split():
    data = digits.Config().build(eight_by_eight(17))
    assert (len(data.train), len(data.test)) == (1400, 397)
    x = torch.cat([data.train.x_0, data.test.x_0])
    assert x.sum().item() == 561_718  # of the published file
    assert (x.amin().item(), x.amax().item()) == (0, 16)
    assert all(split.label.bincount().min() >= 28 for split in (data.train, data.test))


def test_digits_follow_the_codec():
    fine, coarse = (digits.Config().build(eight_by_eight(n)).train.x_0 for n in (17, 4))
    assert torch.equal(coarse, (fine * 4 // 16).clamp(max=3))


def test_digits_errors(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="8x8"):
        digits.Config().build(pixels.Config(height=8, width=9, levels=4).build())
    with pytest.raises(RecipeError, match=r"codec\.kind"):
        digits.Config().build(states.Config(num_dims=4, num_states=2).build())
    damaged = tmp_path / "digits.npz"
    damaged.write_bytes(digits.FILE.read_bytes()[:1000])
    for path in (damaged, tmp_path / "none.npz"):
        monkeypatch.setattr(digits, "FILE", path)
        with pytest.raises(DataError, match=path.name):
            digits.Config().build(eight_by_eight(4))


# MNIST


def write_idx(path, array):
    header = np.array([2048 + array.ndim, *array.shape], dtype=">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_mnist_crops_and_averages_blocks():
    grey = torch.zeros(1, 28, 28, dtype=torch.uint8)
    grey[0, :2] = 255  # cropped away
    grey[0, 2, 2] = 204  # one pixel of the first 2x2 block: mean .2
    grey[0, 2:4, 4:6] = 102  # the whole second block: mean .4
    grey[0, 26:, :] = 255  # cropped away
    images = mnist._reduced(grey, (12, 12))
    expected = torch.zeros(12, 12)
    expected[0, 0], expected[0, 1] = 0.2, 0.4
    assert torch.allclose(images[0, 0], expected)
    two, four = (pixels.Config(height=12, width=12, levels=n).build() for n in (2, 4))
    assert mnist.Config(threshold=0.3)._tokens(grey, two)[0, :3].tolist() == [0, 1, 0]
    assert mnist.Config(threshold=0.1)._tokens(grey, two)[0, :3].tolist() == [1, 1, 0]
    assert mnist.Config()._tokens(grey, four)[0, :3].tolist() == [0, 1, 0]


def test_mnist_reads_idx_and_refuses_anything_else(tmp_path):
    path = tmp_path / "x.gz"
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(path, array)
    assert torch.equal(mnist._read(path, 2051, (2, 3, 4)), torch.from_numpy(array))
    whole = path.read_bytes()
    for damage in (b"", b"not gzip", whole[:-9], whole[:20], gzip.compress(b"idx?")):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=r"x\.gz"):
            mnist._read(path, 2051, (2, 3, 4))
    write_idx(path, array[:1])
    with pytest.raises(DataError, match=r"x\.gz"):
        mnist._read(path, 2051, (2, 3, 4))


def test_mnist_names_the_missing_file(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    monkeypatch.setenv("DI4C_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: No such file") as caught:
        mnist.Config().build(pixels.Config(height=12, width=12, levels=2).build())
    assert "DI4C_DATA" in caught.value.hint


def test_mnist_tells_of_a_failed_download(tmp_path, monkeypatch):
    def offline():
        raise RuntimeError("no network")

    monkeypatch.delenv("DI4C_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(mnist, "import_torchvision", offline)
    with pytest.raises(DataError, match=f"{tmp_path / 'di4c'}: no network"):
        mnist.Config().build(pixels.Config(height=12, width=12, levels=2).build())


def test_mnist_refuses_a_size_that_does_not_divide():
    with pytest.raises(RecipeError, match="24x24"):
        mnist.Config().build(pixels.Config(height=7, width=12, levels=2).build())


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="needs $DI4C_DATA/mnist")
def test_mnist_in_full():
    data = mnist.Config().build(pixels.Config(height=12, width=12, levels=2).build())
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.test.label[:5].tolist() == [7, 2, 1, 0, 4]
    assert 0.1 < data.train.x_0.double().mean() < 0.4


# words


def test_words_keep_every_occurrence_and_hold_out_the_tail(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The cat's hat, the CAT; incomprehensible! " * 10 + "End.")
    codec = characters.Config(length=6).build()
    data = words.Config(path=str(path), held_out=0.25).build(codec)
    read = codec.decode(torch.cat([data.train.x_0, data.test.x_0]))
    assert read == ["the", "cat's", "hat", "the", "cat"] * 10 + ["end"]
    assert codec.decode(data.test.x_0) == read[-12:]


def test_words_need_no_download(monkeypatch):
    monkeypatch.delenv("DI4C_DATA", raising=False)
    codec = characters.Config(length=10).build()
    data = words.Config().build(codec)
    assert len(data.train) > 20_000
    assert "python" in codec.decode(data.train.x_0)


@pytest.mark.skipif(not (DATA / "tinyshakespeare").is_dir(), reason="needs $DI4C_DATA/tinyshakespeare")
def test_words_of_shakespeare():
    data = words.Config().build(characters.Config(length=10).build())
    assert (len(data.train), len(data.test)) == (182_397, 20_266)


def test_words_errors(tmp_path):
    codec = characters.Config(length=6).build()
    binary, short = tmp_path / "binary", tmp_path / "short.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    short.write_text("a word")
    for path, message in ((tmp_path / "none", "No such file"), (binary, "UTF-8"), (short, "2 words")):
        with pytest.raises(DataError, match=message) as caught:
            words.Config(path=str(path)).build(codec)
        assert str(path) in caught.value.message


# toys


def build_toy(num_dims, num_states, **settings):
    codec = states.Config(num_dims=num_dims, num_states=num_states).build()
    return toy.Config(**settings).build(codec)


def product_of_marginals(joint):
    axes = range(joint.dim())
    product = torch.ones((), dtype=torch.float64)
    for d in axes:
        product = product[..., None] * joint.sum([k for k in axes if k != d])
    return product


@pytest.mark.parametrize(
    ("settings", "num_dims", "num_states", "expected"),
    [
        ({"joint": "pairs"}, 4, 2, 0.75),
        ({"joint": "pairs"}, 6, 3, 1 - 3**-3),
        ({"joint": "parity"}, 4, 2, 0.5),
        ({"joint": "parity"}, 3, 3, 2 / 3),
        ({"joint": "markov"}, 5, 3, 0.7242),
        ({"joint": "markov"}, 6, 3, 0.7773),
        ({"joint": "sparse", "sharpness": 0, "seed": 72}, 4, 3, 0.8264),
        ({"joint": "sparse", "sharpness": 0, "seed": 72}, 6, 2, 0.7832),
    ],
)
def test_toy_joints_are_laws_of_known_correlation(settings, num_dims, num_states, expected):
    data = build_toy(num_dims, num_states, **settings)
    assert data.joint.shape == (num_states,) * num_dims
    assert data.joint.min() >= 0
    assert data.joint.sum().item() == pytest.approx(1, abs=1e-12)
    distance = 0.5 * (data.joint - product_of_marginals(data.joint)).abs().sum().item()
    assert distance == pytest.approx(expected, abs=1e-4)


def test_toy_structure():
    pairs = build_toy(5, 3, joint="pairs", num=1000).train.x_0
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert torch.equal(pairs[:, 2], pairs[:, 3])
    assert set(pairs[:, 4].tolist()) == {0, 1, 2}
    assert (build_toy(4, 3, joint="parity", num=1000).train.x_0.sum(1) % 3 == 0).all()
    assert (build_toy(4, 3, joint="sparse", atoms=5).joint > 0).sum() == 5
    chain = build_toy(3, 3, joint="markov").joint
    assert torch.allclose(chain.sum((1, 2)), chain.sum((0, 1)))  # stationary
    first, second = chain.sum(2), chain.sum(0)
    assert torch.allclose(chain, first[:, :, None] * (second / second.sum(1, keepdim=True))[None])


def test_toy_points_follow_the_joint():
    data = build_toy(3, 3, num=30_000)
    for split in (data.train, data.test):
        index = (split.x_0 * torch.tensor([9, 3, 1])).sum(1)
        share = index.bincount(minlength=27).double() / len(split)
        assert 0.5 * (share - data.joint.flatten()).abs().sum() < 0.02
    assert not torch.equal(data.train.x_0, data.test.x_0)


def test_toy_is_the_same_for_the_same_seed_only():
    first, again, other = (build_toy(3, 3, seed=seed, num=50) for seed in (1, 1, 2))
    assert torch.equal(first.train.x_0, again.train.x_0)
    assert torch.equal(first.joint, again.joint)
    assert not torch.equal(first.joint, other.joint)


def test_toy_refuses_what_cannot_be_enumerated():
    with pytest.raises(RecipeError, match="at most"):
        build_toy(20, 2)
    with pytest.raises(RecipeError, match=r"dataset\.atoms"):
        build_toy(2, 2, joint="sparse")
