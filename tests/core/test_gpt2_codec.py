"""GPT-2's vocabulary, read from OpenAI's file or nowhere."""

import os
from pathlib import Path

import pytest
import torch

from di4c_cli.core.codecs import TextCodec, gpt2
from di4c_cli.errors import DataError


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
