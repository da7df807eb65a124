"""The codec a data set was made for."""

from typing import TypeVar

from di4c_cli.core.codecs import Codec
from di4c_cli.errors import RecipeError

C = TypeVar("C", bound=Codec)


def expect(codec: Codec, wanted: type[C], kind: str, dataset: str) -> C:
    """The codec, known to be of the class the data set needs.

    Raises:
        RecipeError: it is another one.
    """
    if not isinstance(codec, wanted):
        raise RecipeError(
            f"codec.kind: the data set '{dataset}' does not fit this codec", f'set codec.kind = "{kind}"'
        )
    return codec
