"""The codec a data set was made for."""

import dataclasses
from typing import Any, TypeVar

from di4c_cli.core import checkpoints
from di4c_cli.core.codecs import Codec, ImageCodec, TextCodec
from di4c_cli.core.component import Config
from di4c_cli.errors import RecipeError

C = TypeVar("C", bound=Codec)
PLAIN = (bool, int, float, str, tuple, list)


def expect(codec: Codec, wanted: type[C], kind: str, dataset: str) -> C:
    """The codec, known to be of the class the data set needs.

    Raises:
        RecipeError: it is another one.
    """
    if not isinstance(codec, wanted):
        raise _misfit(kind, dataset)
    return codec


def expect_images(codec: Codec, kind: str, dataset: str) -> ImageCodec:
    """The codec, known to be any one of images.

    Raises:
        RecipeError: it is not.
    """
    if not isinstance(codec, ImageCodec):
        raise _misfit(kind, dataset)
    return codec


def expect_text(codec: Codec, kind: str, dataset: str) -> TextCodec:
    """The codec, known to be any one of running text.

    Raises:
        RecipeError: it is not.
    """
    if not isinstance(codec, TextCodec):
        raise _misfit(kind, dataset)
    return codec


def _misfit(kind: str, dataset: str) -> RecipeError:
    return RecipeError(
        f"codec.kind: the data set '{dataset}' does not fit this codec", f'set codec.kind = "{kind}"'
    )


def identity(codec: Codec) -> dict[str, Any]:
    """All that shapes a codec's tokens, as JSON: class, space, settings, hashes of weights.

    Settings are its `config`, or else its public attributes of plain types. Where files lie does not count.
    """
    config = getattr(codec, "config", None)
    given = dict(config) if isinstance(config, Config) else vars(codec)
    settings = {
        name: value
        for name, value in given.items()
        if isinstance(value, PLAIN) and not name.startswith("_") and name not in ("path", "checkpoint")
    }
    folder = checkpoints.find(given["checkpoint"]) if given.get("checkpoint") else None
    weights = checkpoints.read_config(folder).get("files") if folder else None
    return {
        "class": f"{type(codec).__module__}.{type(codec).__qualname__}",
        "space": dataclasses.asdict(codec.space),
        "settings": settings,
        "weights": weights,
    }
