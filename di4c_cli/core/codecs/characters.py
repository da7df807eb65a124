"""Characters: strings of at most a fixed length, padded at the end."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from pydantic import Field, field_validator
from torch import Tensor

from di4c_cli.core import codecs
from di4c_cli.core.codecs import Codec
from di4c_cli.core.space import StateSpace

PADDING = "_"


class CharacterCodec(Codec):
    """State 0 is the padding, state k the k-th character of the alphabet."""

    modality: ClassVar[str] = "text"
    padding_id: ClassVar[int] = 0

    def __init__(self, length: int, alphabet: str) -> None:
        self.space = StateSpace(shape=(length,), num_states=len(alphabet) + 1)
        self.length = length
        self.alphabet = alphabet
        self._symbols = PADDING + alphabet

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "N D"]:
        """Strings of at most `length` characters of the alphabet; an underscore is padding.

        Raises:
            KeyError: a character outside the alphabet.
        """
        state = {symbol: k for k, symbol in enumerate(self._symbols)}
        rows = [[state[c] for c in text.ljust(self.length, PADDING)] for text in texts]
        return torch.tensor(rows, dtype=torch.int64).view(-1, self.length)

    def decode(self, tokens: Int[Tensor, "N D"]) -> list[str]:
        """Strings without the padding at the end; padding inside a string (not a valid one) shows as "_"."""
        return ["".join(self._symbols[k] for k in row).rstrip(PADDING) for row in tokens.tolist()]


class Config(codecs.Config):
    """Fixed-length strings over a small alphabet."""

    length: int = Field(ge=1)
    """Positions (D): the longest string."""
    alphabet: str = Field("abcdefghijklmnopqrstuvwxyz'", min_length=1)
    """The characters in the order of their states, which begin at 1 (0 is the padding)."""

    @field_validator("alphabet")
    @classmethod
    def _distinct(cls, alphabet: str) -> str:
        if len(set(alphabet)) < len(alphabet) or PADDING in alphabet:
            raise ValueError(f"characters must be distinct and must not hold the padding {PADDING!r}")
        return alphabet

    def build(self) -> CharacterCodec:
        return CharacterCodec(self.length, self.alphabet)
