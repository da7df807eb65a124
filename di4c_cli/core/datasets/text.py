"""Running text of any files, cut into rows of D tokens."""

import os
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, model_validator

from di4c_cli.core import datasets
from di4c_cli.core.codecs import Codec, TextCodec
from di4c_cli.core.datasets import Dataset, Split, TensorSplit, compact, data_root
from di4c_cli.core.datasets._cache import cached
from di4c_cli.core.datasets._codec import expect_text, identity
from di4c_cli.core.datasets._documents import PlaceJson, TextFiles
from di4c_cli.core.datasets._download import download_folder, downloading, fetch
from di4c_cli.core.datasets._header import Spec
from di4c_cli.core.datasets._mapped import MappedSplit, WindowSplit
from di4c_cli.core.datasets._packing import Packer, State
from di4c_cli.errors import DataError, RecipeError

IN_MEMORY = 2**24  # bytes on disk up to which a text is tokenised at every start (seconds) and held in memory
SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
    "/data/tinyshakespeare/input.txt"
)
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TIMEOUT = 20.0  # seconds without a byte, after which a download is given up


class Config(datasets.Config):
    """Text files as rows of tokens, a document behind the other with the codec's token of their ends between.

    Files of more than 16 MiB together are tokenised once, into a memory-mapped cache below the runs.
    """

    path: str | None = None
    """A .txt file, which is one document, a .jsonl file with a `text` a line, either also as .gz, or a folder
    of such files; $NAMES are of the environment; unset: $DI4C_DATA/tinyshakespeare/input.txt, or else a
    download of it."""
    test_path: str | None = None
    """The same for held-out text; unset: the end of `path`."""
    held_out: float = Field(0.1, gt=0, lt=1)
    """The share of rows, at the end of the text, that is held out where there is no test_path."""
    stride: int | None = Field(None, ge=1)
    """Tokens from the beginning of a row to that of the next; unset: D, and no token is in two rows."""
    wrap: bool = False
    """Pack 1000 documents at a time into D - 2 tokens with the document end before and after them, as the
    OpenWebText models expect it."""

    @model_validator(mode="after")
    def _either(self) -> "Config":
        if self.wrap and self.stride is not None:
            raise ValueError("wrapped rows do not overlap: leave out stride, or wrap")
        return self

    def build(self, codec: Codec) -> Dataset:
        text = expect_text(codec, "characters", "text")
        if self.wrap and (text.document_end is None or text.space.num_dims < 3):
            raise RecipeError(
                "dataset.wrap: this codec has no document end to wrap rows in", 'set codec.kind = "gpt2"'
            )
        path = _named(self.path) if self.path else _shakespeare()
        rows = self._rows(TextFiles.find(path, "dataset.path"), text, "text")
        if self.test_path:
            other = TextFiles.find(_named(self.test_path), "dataset.test_path")
            train, test = rows, self._rows(other, text, "text-held-out")
        else:
            cut = len(rows) - max(1, int(len(rows) * self.held_out))
            train, test = rows.part(0, max(cut, 0)), rows.part(max(cut, 0), len(rows))
        if not (len(train) and len(test)):
            raise DataError(
                f"{path}: {len(rows)} rows of {text.space.num_dims} tokens, too few to train and to hold out",
                "give a longer text as dataset.path, or lower codec.length",
            )
        return Dataset(train=self._windows(train, text), test=self._windows(test, text))

    def _rows(self, files: TextFiles, codec: TextCodec, name: str) -> TensorSplit | MappedSplit:
        packer = Packer(files, codec, self.wrap, f"{name}: tokenising")
        space = codec.space
        if files.size <= IN_MEMORY:
            parts = [shard.rows for shard in packer.shards(None)]
            rows = torch.from_numpy(np.concatenate([np.zeros((0, space.num_dims), np.int32), *parts]))
            return TensorSplit(compact(rows, space.num_states))
        key = {"wrap": self.wrap, "codec": identity(codec), "source": files.identity()}
        return cached(
            Spec(name, key, space.num_dims, space.num_states, state=State[PlaceJson]), packer.shards
        )

    def _windows(self, rows: Split, codec: TextCodec) -> Split:
        return rows if self.stride is None else WindowSplit(rows, codec.space.num_dims, self.stride)


def _named(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()


def _shakespeare() -> Path:
    """The file, after a download if need be."""
    root = data_root()
    path = None if root is None else root / "tinyshakespeare" / "input.txt"
    if path is not None and path.is_file():
        return path
    folder = download_folder() / "tinyshakespeare"
    if not (folder / "input.txt").is_file():
        hint = "put input.txt into $DI4C_DATA/tinyshakespeare, or set dataset.path to a text"
        with downloading("tinyshakespeare", folder, TIMEOUT, hint):
            fetch(SHAKESPEARE, SHA256, folder / "input.txt", 2**21)
    return folder / "input.txt"
