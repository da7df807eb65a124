"""GPT-2's byte-level vocabulary: text as 50,257 byte-pair tokens, by tiktoken.

The space needs no vocabulary: it is read when the first text is encoded or decoded.
"""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import codecs
from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.space import StateSpace
from di4c_cli.errors import DataError

if TYPE_CHECKING:
    from tiktoken import Encoding

NUM_TOKENS = 50_257
DOCUMENT_END = 50_256
RANKS = "encoder.json"
# Of OpenAI's file. The ranks are also the order of merges: GPT-2's vocab.bpe says the same once more.
SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
HINT = f"put GPT-2's {RANKS} into $DI4C_DATA/gpt2-bpe, or name its folder as codec.path"


class GPT2Codec(TextCodec):
    """State k is GPT-2's token k; the last one ends a document."""

    document_end = DOCUMENT_END

    def __init__(self, length: int, path: str | None) -> None:
        self.space = StateSpace(shape=(length,), num_states=NUM_TOKENS)
        self.path = path

    def tokenize(self, text: str) -> Int[Tensor, " n"]:
        """Tokens of a text of any length; `<|endoftext|>` in it is ordinary text.

        Raises:
            DataError: the vocabulary is not at hand.
            ValueError: half of a surrogate pair, which is no character.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{text[error.start]!r} is no character") from None
        return torch.from_numpy(self._encoding.encode_to_numpy(text, disallowed_special=()).astype("int64"))

    def decode(self, tokens: Int[Tensor, "N D"]) -> list[str]:
        """Texts; bytes that are not UTF-8, as at a cut, show as U+FFFD.

        Raises:
            DataError: the vocabulary is not at hand.
        """
        encoding = self._encoding
        return [encoding.decode_bytes(row).decode("utf-8", errors="replace") for row in tokens.tolist()]

    @cached_property
    def _encoding(self) -> "Encoding":
        folder = _folder(self.path)
        return _downloaded() if folder is None else _local(folder / RANKS)


def _folder(path: str | None) -> Path | None:
    """Where the ranks lie: as told, else $DI4C_DATA/gpt2-bpe, else nowhere yet."""
    if path is not None:
        return Path(path)
    data = os.environ.get("DI4C_DATA")
    beside = Path(data) / "gpt2-bpe" if data else None
    return beside if beside is not None and beside.is_dir() else None


def _local(path: Path) -> "Encoding":
    """From OpenAI's file, byte for byte."""
    from tiktoken import Encoding
    from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", HINT) from error
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise DataError(f"{path}: not GPT-2's vocabulary, or damaged (its sha256 is another)", HINT)
    byte = {symbol: value for value, symbol in enumerate(_symbols())}
    ranks = {bytes(byte[symbol] for symbol in token): rank
             for token, rank in json.loads(raw).items() if rank != DOCUMENT_END}  # fmt: skip
    return Encoding(
        "gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: DOCUMENT_END},
        explicit_n_vocab=NUM_TOKENS,
    )


def _symbols() -> list[str]:
    """The character that stands for each byte in the file: itself if that shows, else one from 256 on."""
    shown = [chr(byte).isprintable() and byte != ord(" ") for byte in range(256)]
    return [chr(byte if shown[byte] else 256 + shown[:byte].count(False)) for byte in range(256)]


def _downloaded() -> "Encoding":
    """tiktoken's own copy, fetched once into its cache."""
    import tiktoken

    try:
        return tiktoken.get_encoding("gpt2")
    except (OSError, ValueError, ImportError) as error:  # no network, a damaged download, no `requests`
        reason = type(error).__name__
        raise DataError(f"GPT-2's vocabulary could not be downloaded ({reason})", HINT) from error


class Config(codecs.Config):
    """Running text in GPT-2's tokens."""

    length: int = Field(ge=1)
    """Tokens of one sample (D)."""
    path: str | None = None
    """Folder of GPT-2's encoder.json; unset: $DI4C_DATA/gpt2-bpe, else tiktoken's download."""

    def build(self) -> GPT2Codec:
        return GPT2Codec(self.length, self.path)
