"""Characters: strings of at most a fixed length, padded at the end."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from pydantic import Field, field_validator
from torch import Tensor

from di4c_cli.core import codecs
from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.space import StateSpace

PADDING = "_"


class CharacterCodec(TextCodec):
    """State 0 is the padding, state k the k-th character of the alphabet."""

    padding_id: ClassVar[int] = 0

    def __init__(self, length: int, alphabet: str) -> None:
        self.space = StateSpace(shape=(length,), num_states=len(alphabet) + 1)
        self.length = length
        self.alphabet = alphabet
        self._symbols = PADDING + alphabet
        self._state = {symbol: k for k, symbol in enumerate(self._symbols)}

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "N D"]:
        """Strings of at most `length` characters of the alphabet; an underscore is padding.

        Raises:
            KeyError: a character outside the alphabet.
        """
        rows = [[self._state[c] for c in text.ljust(self.length, PADDING)] for text in texts]
        return torch.tensor(rows, dtype=torch.int64).view(-1, self.length)

    def tokenize(self, text: str) -> Int[Tensor, " n"]:
        """States of the characters of a text, as many as it has; the padding is no character.

        Raises:
            ValueError: a character outside the alphabet.
        """
        foreign = sorted(set(text) - set(self.alphabet))
        if foreign:
            raise ValueError(f"{text[:40]!r} holds {foreign[0]!r}, which is not in the alphabet")
        return torch.tensor([self._state[c] for c in text], dtype=torch.int64)

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
