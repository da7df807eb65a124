"""Molecules and sequences on disk: formats, keys and the picture."""

import json

import pytest
from PIL import Image

from di4c_cli import writing
from di4c_cli.core.codecs import sequences, smiles
from di4c_cli.errors import UsageError

TEXTS = ["CCO", "C1CC1", "C((", ""]
SMILES = smiles.Config(length=6).build()
TOKENS = SMILES.encode(TEXTS)


def test_molecules_are_a_smi_file_unless_told_otherwise(tmp_path):
    (path,) = writing.writer_for(SMILES, None, tmp_path)(TOKENS, None)
    assert path == tmp_path / "samples.smi"
    assert path.read_text() == "CCO\nC1CC1\nC((\n\n"
    assert writing.writer_for(SMILES, None, tmp_path / "a.txt")(TOKENS, None) == [tmp_path / "a.txt"]
    with pytest.raises(UsageError, match="not for smiles data"):
        writing.writer_for(SMILES, "png", tmp_path)


@pytest.mark.parametrize(
    ("codec", "key", "text"),
    [(SMILES, "smiles", "CCO"), (sequences.Config(length=3).build(), "sequence", "ACG")],
)
def test_jsonl_calls_them_by_their_name(tmp_path, codec, key, text):
    (path,) = writing.write_jsonl(codec, codec.encode([text]), None, tmp_path)
    line = json.loads(path.read_text())
    assert line.keys() == {"index", key, "tokens", "label"}
    assert line[key] == text


def test_the_picture_has_a_place_for_each_molecule(tmp_path):
    pytest.importorskip("rdkit")
    *_, path = writing.writer_for(SMILES, "txt", tmp_path, grid=True)(TOKENS, None)
    assert path == tmp_path / "grid.png"
    picture = Image.open(path).convert("L")
    tiles = [picture.crop((x, y, x + 220, y + 140)) for y in (0, 180) for x in (0, 220)]
    assert picture.size == (440, 360)
    assert [tile.getextrema()[0] < 255 for tile in tiles] == [True, True, False, False]
