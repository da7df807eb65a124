"""SMILES: molecules as strings of characters, padded at the end."""

from typing import ClassVar

from pydantic import Field

from di4c_cli.core.codecs import characters
from di4c_cli.core.codecs.characters import CharacterCodec


class SmilesCodec(CharacterCodec):
    """Characters that spell a molecule. Padding inside a string stays in it, and makes it no SMILES."""

    noun: ClassVar[str] = "smiles"


class Config(characters.Config):
    """SMILES strings, a character a position."""

    alphabet: str = Field("#()+-.123456=CFHNO[]cno", min_length=1)
    """The characters in the order of their states, which begin at 1 (0 is the padding); by default QM9's."""

    def build(self) -> SmilesCodec:
        return SmilesCodec(self.length, self.alphabet)
