"""Codecs: tokens against images and strings."""

import json
import os
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from di4c_cli.core import checkpoints, component
from di4c_cli.core.codecs import (
    ImageCodec,
    LearnedConfig,
    TextCodec,
    characters,
    gpt2,
    patches,
    pixels,
    states,
)
from di4c_cli.core.codecs._kmeans import kmeans
from di4c_cli.core.codecs._nearest import nearest
from di4c_cli.errors import CheckpointError, DataError


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_pixels_survive_the_round_trip_and_bins_are_equal(levels):
    codec = pixels.Config(height=2, width=3, channels=2, levels=levels).build()
    assert isinstance(codec, ImageCodec)
    assert codec.image_shape == (2, 2, 3)
    assert (codec.space.shape, codec.space.num_states) == ((2, 2, 3), levels)
    tokens = torch.randint(levels, (5, 12), generator=torch.Generator().manual_seed(0))
    images = codec.decode(tokens)
    assert images.shape == (5, 2, 2, 3)
    assert torch.equal(codec.encode(images), tokens)
    ramp = ((torch.arange(1200 * levels) + 0.5) / (1200 * levels)).view(-1, 2, 2, 3)
    assert codec.encode(ramp).flatten().bincount().tolist() == [1200] * levels


def test_pixels_white_is_the_last_level():
    codec = pixels.Config(height=1, width=2, levels=4).build()
    assert codec.encode(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)).tolist() == [[0, 3]]
    assert codec.decode(torch.tensor([[0, 3]])).flatten().tolist() == [0.0, 1.0]


def test_characters_pad_and_strip():
    codec = characters.Config(length=5).build()
    assert (codec.space.shape, codec.space.num_states) == ((5,), 28)
    words = ["", "a", "don't", "'tis"]
    tokens = codec.encode(words)
    assert tokens[1].tolist() == [1, 0, 0, 0, 0]
    assert codec.decode(tokens) == words


def test_characters_show_padding_inside_a_string():
    codec = characters.Config(length=4).build()
    tokens = torch.tensor([[1, 0, 2, 0]])
    assert codec.decode(tokens) == ["a_b"]
    assert torch.equal(codec.encode(["a_b"]), tokens)


def test_running_characters_have_no_padding():
    codec = characters.Config(length=3, alphabet="ab\n é").build()
    assert isinstance(codec, TextCodec)
    assert codec.document_end is None
    assert codec.tokenize("ba\nb é").tolist() == [2, 1, 3, 2, 4, 5]  # longer than a sample, as it is
    assert codec.tokenize("").shape == (0,)
    assert codec.tokenize("").dtype == torch.int64
    for text in ("aXb", "a_b"):
        with pytest.raises(ValueError, match="which is not in the alphabet"):
            codec.tokenize(text)


@pytest.mark.parametrize("alphabet", ["", "aa", "a_"])
def test_characters_refuse_an_ambiguous_alphabet(alphabet):
    with pytest.raises(ValidationError):
        characters.Config(length=4, alphabet=alphabet)


def test_states_are_digits():
    codec = states.Config(num_dims=3, num_states=12).build()
    assert codec.decode(torch.tensor([[0, 9, 11]])) == ["09b"]


def test_states_beyond_the_digits_are_numbers():
    codec = states.Config(num_dims=3, num_states=211).build()
    assert codec.decode(torch.tensor([[0, 37, 210]])) == ["0 37 210"]


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
    points, owner = blobs()
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
    assert (0 <= book).all()
    assert (book <= 1).all()
    assert brightness[0] < 0.01 < 0.9 < brightness[-1]
    tokens = torch.arange(72).view(2, 36) % 64
    assert torch.equal(codec.encode(codec.decode(tokens)), tokens)
    if (data := Path(os.environ.get("DI4C_DATA", ""), "mnist")).is_dir():
        images = mnist_images(data)
        error = (codec.decode(codec.encode(images)) - images).square().mean().item()
        assert error < 0.013, error  # the mean over all test images is 0.01163


def mnist_images(folder):
    """Every 20th test image, its middle 24x24."""
    from di4c_cli.core.datasets import mnist

    raw = mnist._read(folder / "t10k-images-idx3-ubyte.gz", mnist.IMAGES_MAGIC, (10_000, 28, 28))
    return raw[::20, None, 2:26, 2:26] / 255


# GPT-2


def vocabulary():
    folder = Path(os.environ.get("DI4C_DATA", ""), "gpt2-bpe")
    if not (folder / "encoder.json").is_file():
        pytest.skip("gpt2-bpe is not in DI4C_DATA")
    return folder


@pytest.fixture(scope="module")
def codec():
    return gpt2.Config(length=8, path=str(vocabulary())).build()


def test_the_space_of_gpt2_needs_no_vocabulary():
    codec = gpt2.Config(length=1024, path="/nowhere").build()
    assert isinstance(codec, TextCodec)
    assert (codec.space.shape, codec.space.num_states) == ((1024,), 50257)
    assert codec.document_end == 50256


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello world", [31373, 995]),
        ("Hello, world!", [15496, 11, 995, 0]),
        ("", []),
        ("a<|endoftext|>", [64, 27, 91, 437, 1659, 5239, 91, 29]),  # in a text it is text
    ],
)
def test_gpt2_tokens(codec, text, tokens):
    found = codec.tokenize(text)
    assert found.dtype == torch.int64
    assert found.tolist() == tokens
    assert codec.decode(found[None]) == [text]


def test_gpt2_takes_every_byte(codec):
    text = "".join(map(chr, range(0x3000))) + "\U0001f600 naïve\r\n\t  x"
    assert codec.decode(codec.tokenize(text)[None]) == [text]


def test_gpt2_shows_halves_of_characters_and_ends_of_documents(codec):
    half = codec.tokenize("\U0001f600")[:1]
    assert codec.decode(torch.stack([half, torch.tensor([50256])])) == ["\ufffd", "<|endoftext|>"]


def test_gpt2_refuses_what_is_no_character(codec):
    with pytest.raises(ValueError, match="is no character"):
        codec.tokenize("a\ud800b")


def test_gpt2_is_found_below_the_data(monkeypatch):
    monkeypatch.setenv("DI4C_DATA", str(vocabulary().parent))
    assert gpt2.Config(length=8).build().tokenize("hello world").tolist() == [31373, 995]


def test_gpt2_agrees_with_its_merges(codec):
    """tiktoken builds the same ranks from both of OpenAI's files; its own cache stays out of it."""
    load = pytest.importorskip("tiktoken.load")
    files = [str(vocabulary() / name) for name in ("vocab.bpe", "encoder.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        ranks = load.data_gym_to_mergeable_bpe_ranks(*files)
    assert codec._encoding._mergeable_ranks == ranks


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"a": 0}', b"\xff" * 10])
def test_a_wrong_vocabulary_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "encoder.json").write_bytes(content)
    codec = gpt2.Config(length=8, path=str(tmp_path)).build()
    for use in (lambda: codec.tokenize("a"), lambda: codec.decode(torch.zeros(1, 8, dtype=torch.int64))):
        with pytest.raises(DataError, match=r"encoder\.json: (No such file|not GPT-2's)") as error:
            use()
        assert "DI4C_DATA" in error.value.hint


def test_one_byte_of_the_vocabulary_is_enough(tmp_path):
    raw = bytearray((vocabulary() / "encoder.json").read_bytes())
    raw[1000] ^= 1
    (tmp_path / "encoder.json").write_bytes(raw)
    with pytest.raises(DataError, match="sha256"):
        gpt2.Config(length=8, path=str(tmp_path)).build().tokenize("a")


def test_without_a_vocabulary_and_a_network(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("DI4C_DATA", raising=False)
    from tiktoken import registry

    monkeypatch.setattr(registry, "ENCODINGS", {})
    with pytest.raises(DataError, match="could not be downloaded") as error:
        gpt2.Config(length=8).build().tokenize("a")
    assert "gpt2-bpe" in error.value.hint
    assert "\n" not in str(error.value)


def test_every_codec_is_one_of_image_or_text():
    assert {"characters", "gpt2", "patches", "pixels", "states", "vqgan"} <= set(component.kinds("codecs"))
