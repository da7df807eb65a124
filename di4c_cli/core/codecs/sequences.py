"""Sequences of one length over a small alphabet, such as DNA or the rows of an alignment: no padding."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from pydantic import Field, field_validator
from torch import Tensor

from di4c_cli.core import codecs
from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.space import StateSpace


class SequenceCodec(TextCodec):
    """State k is the k-th letter of the alphabet."""

    noun: ClassVar[str] = "sequence"

    def __init__(self, length: int, alphabet: str) -> None:
        self.space = StateSpace(shape=(length,), num_states=len(alphabet))
        self.length = length
        self.alphabet = alphabet
        self._state = {letter: k for k, letter in enumerate(alphabet)}

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "N D"]:
        """Sequences of `length` letters each.

        Raises:
            KeyError: a letter outside the alphabet.
        """
        rows = [[self._state[letter] for letter in text] for text in texts]
        return torch.tensor(rows, dtype=torch.int64).view(-1, self.length)

    def tokenize(self, text: str) -> Int[Tensor, " n"]:
        """States of the letters of a sequence of any length.

        Raises:
            ValueError: a letter outside the alphabet.
        """
        foreign = sorted(set(text) - set(self.alphabet))
        if foreign:
            raise ValueError(f"{text[:40]!r} holds {foreign[0]!r}, which is not in the alphabet")
        return torch.tensor([self._state[letter] for letter in text], dtype=torch.int64)

    def decode(self, tokens: Int[Tensor, "N D"]) -> list[str]:
        return ["".join(self.alphabet[k] for k in row) for row in tokens.tolist()]


class Config(codecs.Config):
    """Sequences of one length; the alphabet of an alignment has a letter for gaps."""

    length: int = Field(ge=1)
    """Positions (D)."""
    alphabet: str = Field("ACGT", min_length=2)
    """The letters in the order of their states."""

    @field_validator("alphabet")
    @classmethod
    def _distinct(cls, alphabet: str) -> str:
        if len(set(alphabet)) < len(alphabet):
            raise ValueError("letters must be distinct")
        return alphabet

    def build(self) -> SequenceCodec:
        return SequenceCodec(self.length, self.alphabet)
