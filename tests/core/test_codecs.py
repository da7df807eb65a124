"""Codecs: tokens against images and strings."""

import pytest
import torch
from pydantic import ValidationError

from di4c_cli.core.codecs import ImageCodec, TextCodec, characters, pixels, states


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
