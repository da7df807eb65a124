"""Bare states: the numbers themselves, for toys."""

from typing import ClassVar

from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from di4c_cli.core import codecs
from di4c_cli.core.codecs import Codec
from di4c_cli.core.space import StateSpace

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class StateCodec(Codec):
    """A point of S^D is shown as D digits in base S; with more states than digits, as D numbers."""

    modality: ClassVar[str] = "text"
    noun: ClassVar[str] = "text"

    def __init__(self, num_dims: int, num_states: int) -> None:
        self.space = StateSpace(shape=(num_dims,), num_states=num_states)

    def decode(self, tokens: Int[Tensor, "N D"]) -> list[str]:
        if self.space.num_states > len(DIGITS):
            return [" ".join(map(str, row)) for row in tokens.tolist()]
        return ["".join(DIGITS[k] for k in row) for row in tokens.tolist()]


class Config(codecs.Config):
    """A small space S^D."""

    num_dims: int = Field(ge=1)
    """Positions (D)."""
    num_states: int = Field(ge=2)
    """States of one position (S)."""

    def build(self) -> StateCodec:
        return StateCodec(self.num_dims, self.num_states)
