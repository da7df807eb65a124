"""Running text cut into rows of D tokens."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.datasets._cache import Shard
from di4c_cli.core.datasets._header import REMOVE
from di4c_cli.core.datasets._mapped import Array
from di4c_cli.core.progress import report
from di4c_cli.errors import DataError

P = TypeVar("P")
DOCUMENTS = 1000  # that are packed together: what is left of them at the end is dropped
SHARD_TOKENS = 2**25  # about half a minute of tokenising is the most that a kill loses


@dataclass(frozen=True)
class Piece:
    """A document, or a piece of one."""

    text: str
    ends: bool
    """Whether the document ends here."""
    place: Any
    """JSON: where the next piece begins."""
    origin: str
    """The file, for people."""
    line: int
    """Of the first character, from 1."""
    done: int
    total: int
    """How far this is through everything, in any unit."""


@runtime_checkable
class Documents(Protocol):
    """A source of text. Pieces are cut where a token ends, whatever the codec."""

    def pieces(self, place: Any) -> Iterator[Piece]:
        """Everything from a place on; None is the beginning."""


class State(BaseModel, Generic[P]):
    """Where a shard ends: the place of the next piece, the tokens that wait there for more, and how many
    documents have been packed together before it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    place: P
    waiting: list[NonNegativeInt]
    documents: NonNegativeInt


@dataclass(frozen=True)
class Packer:
    """Rows of D tokens of all documents, each followed by the codec's token for the end of one.

    Without `wrap`, all tokens are one stream. With it (the OpenWebText rows of MDLM and SDTT), 1000 documents
    at a time are cut into D - 2 tokens, which that same token precedes and follows. Remainders are dropped.
    """

    documents: Documents
    codec: TextCodec
    wrap: bool
    what: str
    """What progress is reported of."""

    def shards(self, state: Any) -> Iterator[Shard]:
        """Shards of about `SHARD_TOKENS` tokens behind a `State`.

        Raises:
            DataError: a character without a token, with file and line.
        """
        place, carried, seen = (None, [], 0) if state is None else (state[key] for key in State.model_fields)
        if max(carried, default=0) >= self.codec.space.num_states:
            raise DataError(f"{self.what}: damaged: header.json of the cache", REMOVE)
        width = self.codec.space.num_dims
        inner = width - 2 if self.wrap else width
        waiting = np.array(carried, dtype=np.int32)
        rows: list[Array] = []
        count = 0
        for piece in self.documents.pieces(place):
            waiting = np.concatenate([waiting, *self._tokens(piece)])
            whole = len(waiting) // inner
            rows.append(waiting[: whole * inner].reshape(whole, inner))
            count += whole
            waiting = waiting[whole * inner :]
            seen += piece.ends
            if self.wrap and seen == DOCUMENTS:
                waiting, seen = waiting[:0], 0
            place = piece.place
            report(piece.done, piece.total, self.what)
            if count * width >= SHARD_TOKENS:
                yield self._shard(rows, place, waiting, seen)
                rows, count = [], 0
        if count:
            yield self._shard(rows, place, waiting, seen)

    def _tokens(self, piece: Piece) -> list[Array]:
        try:
            tokens = self.codec.tokenize(piece.text).numpy().astype(np.int32)
        except ValueError:
            raise self._foreign(piece) from None
        end = self.codec.document_end
        return [tokens, np.array([end], dtype=np.int32)] if piece.ends and end is not None else [tokens]

    def _shard(self, rows: list[Array], place: Any, waiting: Array, seen: int) -> Shard:
        inner = np.concatenate(rows)
        if self.wrap:
            edge = np.full((len(inner), 1), self.codec.document_end, dtype=np.int32)
            inner = np.concatenate([edge, inner, edge], axis=1)
        return Shard(inner, state={"place": place, "waiting": waiting.tolist(), "documents": seen})

    def _foreign(self, piece: Piece) -> DataError:
        """Where in a piece the character is that the codec refuses."""
        hint = "take it out of the text, or choose a codec that has it"
        for number, line in enumerate(io.StringIO(piece.text, newline="\n")):
            for character in dict.fromkeys(line):
                try:
                    self.codec.tokenize(character)
                except ValueError:
                    place = f"{piece.origin}:{piece.line + number}"
                    return DataError(f"{place}: {character!r} is not a character of this codec", hint)
        return DataError(f"{piece.origin}:{piece.line}: cannot be tokenised", hint)
