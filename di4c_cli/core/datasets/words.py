"""Words of a text as fixed-length padded strings, every occurrence counted."""

import re
from pathlib import Path
from pydoc_data.topics import topics

from pydantic import Field

from di4c_cli.core import datasets
from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.characters import CharacterCodec
from di4c_cli.core.datasets import Dataset, TensorSplit, data_root
from di4c_cli.core.datasets._codec import expect
from di4c_cli.errors import DataError


class Config(datasets.Config):
    """The lowercased runs of the codec's characters, no longer than its length, in the order of the text."""

    path: str | None = None
    """A text file; unset: $DI4C_DATA/tinyshakespeare/input.txt, or else the help texts of Python itself."""
    held_out: float = Field(0.1, gt=0, lt=1)
    """The share of words, at the end of the text, that is held out."""

    def build(self, codec: Codec) -> Dataset:
        characters = expect(codec, CharacterCodec, "characters", "words")
        source, text = self._text()
        runs = re.findall(f"[{re.escape(characters.alphabet)}]+", text.lower())
        words = [word for word in runs if len(word) <= characters.length]
        num_test = int(len(words) * self.held_out)
        if num_test == 0:
            raise DataError(
                f"{source}: {len(words)} words of at most {characters.length} characters",
                "give a longer text as dataset.path",
            )
        x_0 = characters.encode(words)
        return Dataset(train=TensorSplit(x_0[:-num_test]), test=TensorSplit(x_0[-num_test:]))

    def _text(self) -> tuple[str, str]:
        """Where the text comes from, and the text."""
        path = _shakespeare() if self.path is None else Path(self.path).expanduser()
        if path is None:
            return "pydoc_data.topics", "\n".join(topics[name] for name in sorted(topics))
        try:
            return str(path), path.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}", "set dataset.path to a text file") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not a UTF-8 text", "set dataset.path to a text file") from error


def _shakespeare() -> Path | None:
    root = data_root()
    path = None if root is None else root / "tinyshakespeare" / "input.txt"
    return path if path is not None and path.is_file() else None
