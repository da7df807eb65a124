"""Conversions in this process, into a folder of the test's own."""

from pathlib import Path
from typing import Any

import pytest

from di4c_cli import conversion
from di4c_cli.errors import Di4CError


@pytest.fixture
def convert(tmp_path):
    """Convert into a new folder, and give the result."""

    def convert(given: Any, kind: str, out: str = "out", **options: Any) -> dict[str, Any]:
        return conversion.convert(str(given), kind, tmp_path / out, **options)

    return convert


@pytest.fixture
def refused(convert, tmp_path):
    """Convert what must be refused with one line, nothing written; give that line."""

    def refused(given: Any, kind: str, **options: Any) -> str:
        before = listing(tmp_path)
        with pytest.raises(Di4CError) as error:
            convert(given, kind, **options)
        assert error.value.exit_code == 2
        assert "\n" not in str(error.value)
        assert listing(tmp_path) == before
        return str(error.value)

    return refused


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
