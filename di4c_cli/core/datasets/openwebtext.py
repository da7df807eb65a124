"""OpenWebText by Hugging Face's `datasets`, packed into rows of D tokens (Gokaslan and Cohen 2019)."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field, NonNegativeInt

from di4c_cli.core import datasets
from di4c_cli.core.codecs import Codec, TextCodec
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.datasets._cache import cached
from di4c_cli.core.datasets._codec import expect_text, identity
from di4c_cli.core.datasets._header import Spec
from di4c_cli.core.datasets._mapped import MappedSplit
from di4c_cli.core.datasets._packing import DOCUMENTS, Packer, Piece, State
from di4c_cli.errors import DataError, RecipeError

INSTALL = "pip install 'di4c[owt]'"
Page = NonNegativeInt
ELSEWHERE = 'or set dataset.kind = "text" and dataset.path to files of your own'


class Config(datasets.Config):
    """Eight million web pages in rows of D tokens: 1000 pages at a time are cut into D - 2 tokens with the
    document end before and after them. The rows are made once, into a memory-mapped cache below the runs.
    The corpus is known by its name: other content under the same name is not noticed."""

    source: str = "Skylion007/openwebtext"
    """What `datasets.load_dataset` loads, on the hub or a local folder; its `train` split has a `text`."""
    held_out: int = Field(100_000, ge=1)
    """Pages, the last ones, that are held out."""

    def build(self, codec: Codec) -> Dataset:
        text = expect_text(codec, "gpt2", "openwebtext")
        if text.document_end is None or text.space.num_dims < 3:
            raise RecipeError(
                "codec: the rows of openwebtext begin and end with the document end",
                'set codec.kind = "gpt2"',
            )
        return Dataset(train=self._rows(text, "train"), test=self._rows(text, "test"))

    def _rows(self, codec: TextCodec, part: str) -> MappedSplit:
        """A finished cache needs neither the corpus nor a network."""
        name = f"openwebtext-{part}"
        key = {"source": self.source, "held_out": self.held_out, "part": part, "codec": identity(codec)}
        packer = Packer(Pages(self.source, self.held_out, part), codec, True, f"{name}: tokenising")
        split = cached(
            Spec(name, key, codec.space.num_dims, codec.space.num_states, state=State[Page]), packer.shards
        )
        if not len(split):
            raise DataError(f"{self.source}: too little text for one row of the {part} split", ELSEWHERE)
        return split


@dataclass(frozen=True)
class Pages:
    """The training or the held-out part of the corpus, which is loaded when its first page is asked for."""

    source: str
    held_out: int
    part: str

    def pieces(self, place: int | None) -> Iterator[Piece]:
        """Every page from a number on."""
        pages = _load(self.source)
        cut = len(pages) - self.held_out
        if cut <= 0:
            raise DataError(
                f"{self.source}: {len(pages)} pages, of which {self.held_out} are to be held out",
                "lower dataset.held_out",
            )
        first, last = (0, cut) if self.part == "train" else (cut, len(pages))
        place = first if place is None else place
        for begin in range(place, last, DOCUMENTS):
            for number, text in enumerate(pages[begin : min(begin + DOCUMENTS, last)]["text"], begin):
                origin, done = f"{self.source}, page {number}", number + 1 - first
                yield Piece(text, True, number + 1, origin, 1, done, last - first)


def _load(source: str) -> Any:
    """The corpus, mapped from disk by `datasets`.

    Raises:
        DataError: the package is missing, there is no connection, or it holds no text.
    """
    try:
        load_dataset = importlib.import_module("datasets").load_dataset
    except ImportError:
        raise DataError("openwebtext: the package `datasets` is missing", f"{INSTALL}, {ELSEWHERE}") from None
    try:
        pages = load_dataset(source, split="train")
    except (OSError, RuntimeError, ValueError) as error:  # no connection, scripts, an unknown name
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{source}: cannot be loaded: {cause}", f"check the connection, {ELSEWHERE}"
        ) from error
    if "text" not in pages.column_names:
        raise DataError(f"{source}: its pages have no `text`", ELSEWHERE)
    return pages
