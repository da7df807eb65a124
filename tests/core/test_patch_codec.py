"""Patches of a k-means codebook: the nearest code, the clustering, the codec and what is shipped."""

import json
import os
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from di4c_cli.core import checkpoints
from di4c_cli.core.codecs import ImageCodec, LearnedConfig, patches
from di4c_cli.core.codecs._kmeans import kmeans
from di4c_cli.core.codecs._nearest import nearest
from di4c_cli.errors import CheckpointError

# nearest codes


def test_nearest_is_what_all_distances_say():
    generator = torch.Generator().manual_seed(0)
    points, codes = (torch.randn(n, 5, generator=generator) for n in (20_000, 37))  # more than one piece
    assert torch.equal(nearest(points, codes), torch.cdist(points.double(), codes.double()).argmin(-1))


def test_of_equal_codes_the_first_is_nearest():
    codes = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    assert nearest(torch.tensor([[0.1], [0.9], [0.5]]), codes).tolist() == [1, 0, 0]


# k-means


def blobs():
    """Three clusters far apart, of 40, 3 and 300 points, and where they lie."""
    generator = torch.Generator().manual_seed(1)
    places = torch.tensor([[200, 200, 10], [20, 90, 20], [3, 3, 3]])
    noise = torch.randint(0, 4, (343, 3), generator=generator)
    owner = torch.tensor([0] * 40 + [1] * 3 + [2] * 300)[torch.randperm(343, generator=generator)]
    return (places[owner] + noise).to(torch.uint8), owner


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_clusters_from_dark_to_bright(seed):
    points, owner = blobs()
    centres, error = kmeans(points, 3, torch.Generator().manual_seed(seed))
    means = torch.stack([points[owner == k].double().mean(0) for k in (2, 1, 0)])
    assert torch.allclose(centres, means, atol=1 / 512)
    assert error == pytest.approx(((points.double() - means[2 - owner]) ** 2).mean().item(), rel=1e-4)


def test_kmeans_depends_on_nothing_but_the_seed(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    points = torch.randint(0, 256, (5000, 16), generator=generator).to(torch.uint8)
    results = []
    for rows in (5000, 37):  # sums in another order, products in other shapes
        for module in ("_kmeans", "_nearest"):
            monkeypatch.setattr(f"di4c_cli.core.codecs.{module}.ROWS", rows)
        results.append(kmeans(points, 20, torch.Generator().manual_seed(0)))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not torch.equal(results[0][0], kmeans(points, 20, torch.Generator().manual_seed(1))[0])


def test_kmeans_revives_a_centre_that_has_lost_its_points(monkeypatch):
    points, _ = blobs()
    far = torch.tensor([[200, 200, 10], [255, 255, 255], [254, 255, 255]], dtype=torch.float64)
    monkeypatch.setattr("di4c_cli.core.codecs._kmeans._start", lambda *_: far)
    centres, _ = kmeans(points, 3, torch.Generator())
    assert nearest(points.double(), centres).unique().tolist() == [0, 1, 2]


def test_kmeans_needs_points_that_differ():
    points = torch.tensor([[1, 2], [3, 4]] * 50, dtype=torch.uint8)
    assert kmeans(points, 2, torch.Generator().manual_seed(0))[0].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="3 codes, but only 2 patches that differ"):
        kmeans(points, 3, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="only 0 patches"):
        kmeans(points[:0], 1, torch.Generator().manual_seed(0))


# patches


def patch_codec(folder, num_codes=8, **changes):
    """A codec of 4x6 colour images in 2x2 patches; its codebook in `folder` (made at random)."""
    codebook = torch.rand(num_codes, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    config = patches.Config(
        height=4, width=6, channels=3, patch=2, num_codes=num_codes, checkpoint=str(folder)
    )
    header = {"role": "codec", "kind": "patches", "architecture": config.architecture}
    checkpoints.save(folder, config=header | changes, model={"codebook": codebook}, ema=None, card="")
    return config.build(), codebook


def test_patches_lie_row_by_row(tmp_path):
    codec, codebook = patch_codec(tmp_path / "codec")
    assert isinstance(codec, ImageCodec)
    assert (codec.image_shape, codec.space.shape, codec.space.num_states) == ((3, 4, 6), (1, 2, 3), 8)
    images = codec.decode(torch.tensor([[0, 1, 2, 3, 4, 7]]))
    assert images.shape == (1, 3, 4, 6)
    for place, code in enumerate([0, 1, 2, 3, 4, 7]):
        row, column = divmod(place, 3)
        shown = images[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(shown, codebook[code])


def test_patches_survive_the_round_trip(tmp_path):
    codec, _ = patch_codec(tmp_path / "codec")
    tokens = torch.randint(8, (5, 6), generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.encode(codec.decode(tokens)), tokens)
    disturbed = codec.decode(tokens) + 0.01 * torch.randn(
        5, 3, 4, 6, generator=torch.Generator().manual_seed(1)
    )
    assert torch.equal(codec.encode(disturbed), tokens)


def test_no_images_are_no_patches(tmp_path):
    codec, _ = patch_codec(tmp_path / "codec")
    assert codec.encode(torch.zeros(0, 3, 4, 6)).shape == (0, 6)
    assert codec.decode(torch.zeros(0, 6, dtype=torch.int64)).shape == (0, 3, 4, 6)


def test_patches_are_fitted_and_read_again(tmp_path):
    config = patches.Config(height=4, width=4, patch=2, num_codes=3, checkpoint=str(tmp_path / "codec"))
    assert isinstance(config, LearnedConfig)
    images = torch.zeros(6, 1, 4, 4)
    images[1::3, :, :2] = 1.0
    images[2::3] = 100 / 255
    fit = config.fit(images, seed=0)
    assert fit.facts == {"mse": 0.0}
    header = {"role": "codec", "kind": "patches", "architecture": fit.architecture}
    checkpoints.save(tmp_path / "codec", config=header, model=fit.tensors, ema=None, card="")
    codec = config.build()
    assert codec.encode(images).tolist() == [[0, 0, 0, 0], [2, 2, 0, 0], [1, 1, 1, 1]] * 2
    assert torch.allclose(codec.decode(codec.encode(images)), images)


@pytest.mark.parametrize("size", [{"height": 9}, {"width": 10}, {"patch": 3}])
def test_patches_must_fill_the_image(size):
    with pytest.raises(ValidationError, match="does not divide"):
        patches.Config(**{"height": 8, "width": 8, "checkpoint": "x"} | size)


def test_the_space_of_patches_needs_no_codebook(tmp_path):
    codec = patches.Config(height=8, width=8, checkpoint="nothing/here").build()
    assert codec.space.num_dims == 4
    with pytest.raises(CheckpointError, match="nothing/here: no checkpoint there") as error:
        codec.decode(torch.zeros(1, 4, dtype=torch.int64))
    assert "di4c train-codec" in error.value.hint
    with pytest.raises(CheckpointError, match="nothing/here"):
        codec.encode(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": {"channels": 3, "patch": 2, "num_codes": 9}}, "num_codes 9 for 8"),
        ({"architecture": {}}, "channels None for 3, patch None for 2"),
        ({"architecture": {"channels": 3, "patch": 2, "num_codes": 8, "more": 1}}, "unknown sizes"),
        ({"kind": "vqgan"}, "not a codec of kind patches"),
        ({"role": "teacher", "recipe": {}}, "not a codec of kind patches"),
    ],
)
def test_codebooks_of_another_codec_are_refused(tmp_path, changes, message):
    codec, _ = patch_codec(tmp_path / "codec", **changes)
    with pytest.raises(CheckpointError, match=message) as error:
        codec.decode(torch.zeros(1, 6, dtype=torch.int64))
    assert "\n" not in str(error.value)


def test_a_codebook_of_another_shape_is_refused(tmp_path):
    codec, codebook = patch_codec(tmp_path / "codec")
    header = json.loads((tmp_path / "codec" / "config.json").read_text())
    checkpoints.save(tmp_path / "codec", config=header, model={"codebook": codebook[:-1]}, ema=None, card="")
    with pytest.raises(CheckpointError, match="of another shape"):
        codec.decode(torch.zeros(1, 6, dtype=torch.int64))


def test_the_shipped_codebook_shows_digits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not found by being in the right place
    codec = patches.Config(height=24, width=24, checkpoint="mnist_tokens/codec").build()
    folder = checkpoints.find("mnist_tokens/codec")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    book = codec.codebook("cpu")
    assert book.shape == (64, 1, 4, 4)
    brightness = book.flatten(1).mean(1)
    assert torch.equal(brightness, brightness.sort().values)
    assert (book >= 0).all()
    assert (book <= 1).all()
    assert brightness[0] < 0.01 < 0.9 < brightness[-1]
    tokens = torch.arange(72).view(2, 36) % 64
    assert torch.equal(codec.encode(codec.decode(tokens)), tokens)
    if (data := Path(os.environ.get("DI4C_DATA", ""), "mnist")).is_dir():
        images = mnist_images(data)
        error = (codec.decode(codec.encode(images)) - images).square().mean().item()
        assert error < 0.013, error  # the mean over all test images is 0.0117


def mnist_images(folder):
    """Every 20th test image, its middle 24x24."""
    from di4c_cli.core.datasets import mnist

    raw = mnist._read(folder / "t10k-images-idx3-ubyte.gz", mnist.IMAGES_MAGIC, (10_000, 28, 28))
    return raw[::20, None, 2:26, 2:26] / 255
