"""The YAML of published model.yaml files."""

import pytest
from released import release

from di4c_cli.conversion._yaml import parse

PUBLISHED = """\
# a comment
model:
  base_learning_rate: 4.5e-06
  target: taming.models.vqgan.VQModel
  params:
    embed_dim: 256   # behind a value
    ddconfig:
      double_z: false
      ch_mult:
      - 1
      - 2
      attn_resolutions: [16, 8]
      none: []
      empty: null
      name: 'it: is'
    lossconfig:
      params: {}
data:
  target: main.Data
  params:
    sizes:
      - 1.5
      - "two"
"""


def test_a_published_file():
    ddconfig = {"double_z": False, "ch_mult": [1, 2], "attn_resolutions": [16, 8], "none": []}
    ddconfig |= {"empty": None, "name": "it: is"}
    params = {"embed_dim": 256, "ddconfig": ddconfig, "lossconfig": {"params": {}}}
    target = "taming.models.vqgan.VQModel"
    assert parse(PUBLISHED) == {
        "model": {"base_learning_rate": 4.5e-06, "target": target, "params": params},
        "data": {"target": "main.Data", "params": {"sizes": [1.5, "two"]}},
    }


def test_an_empty_document():
    assert parse("") == parse("---\n# nothing\n") == {}


@pytest.mark.parametrize(
    "text",
    [
        "- 1\n",
        "a: 1\n- 2\n",
        "just words\n",
        "a: &anchor 1\n",
        "a: *anchor\n",
        "a: !!python/object:os.system x\n",
        "a: |\n  text\n",
        "a: {b: 1}\n",
        "a: 1\na: 2\n",
        "a:\n    b: 1\n  c: 2\n",
        "a: 1\n  b: 2\n",
        "a: [1,\n",
        "\tb: 1\n",
    ],
)
def test_more_than_that(text):
    with pytest.raises(ValueError, match="line"):
        parse(text)


LONG = f"a: {'x' * 2**20}\n".encode()


@pytest.mark.parametrize(
    "text", [b"model: *x\n", b"model:\n  params: 3\n resolution: 8\n", b"- 1\n", b"\xff\xfe", LONG]
)
def test_a_file_that_cannot_be_read(text, refused, tmp_path):
    made = release("vqgan", tmp_path / "in")
    beside = made.path.parent / "model.yaml"
    beside.write_bytes(text)
    assert str(beside) in refused(made.path, "vqgan")
