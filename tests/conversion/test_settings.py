"""What a file does not tell: settings beside it, or the released configuration."""

import json

import pytest
from released import release

from di4c_cli.sources import resolve


def settings_file(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_hparams_take_the_place_of_those_beside(convert, tmp_path):
    made = release("maskgit", tmp_path / "in")
    mine = settings_file(tmp_path, {"heads": 2, "classes": 5})
    beside = made.path.parent / "hparams.json"
    beside.write_text('{"dropout": 0.7, "S": 3}')
    told = convert(made.path, "maskgit", hparams=mine)
    assert told["assumed"] == {}
    recipe = resolve(told["out"], []).recipe
    assert recipe.network.heads == 2
    assert recipe.network.dropout == 0.1
    assert recipe.classes == 5
    assert recipe.codec.num_states == 2


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("mdlm", {"n_blocks": 3}, "n_blocks = 3, and the tensors 2"),
        ("mdlm", {"heads": 4}, "n_heads = 4, and the tensors 2"),
        ("sdtt", {"vocab_size": 50258}, "vocab_size = 50258, and the tensors 12"),
        ("sdtt", {"time_conditioning": True}, "time_conditioning = True, which"),
        ("sdtt", {"tie_word_embeddings": True}, "tie_word_embeddings = True, which"),
        ("di4c-sdtt", {"length": "long"}, "valid integer"),
        ("maskgit", {"S": 5, "classes": 4}, "classes = 4, and the tensors 3"),
        ("maskgit", {"S": 9}, "a table of 9 rows does not hold"),
        ("maskgit", {"heads": 3}, "not a multiple of 3 heads"),
        ("maskgit", {"heads": 0}, "greater than or equal to 1"),
        ("tauldr", {"ch_mult": [1, 3]}, "ch_mult = [1, 3], and the tensors [1, 2]"),
        ("tauldr", {"scale_count_to_put_attn": 0}, "scale_count_to_put_attn = 0, and the tensors 1"),
        ("tauldr", {"shape": [1, 4, 4]}, "shape = [1, 4, 4], and the tensors [3, 4, 4]"),
        ("tauldr", {"S": 8, "data_min_max": [0, 255]}, "data_min_max = [0.0, 255.0], and the tensors [0, 7]"),
        ("tauldr", {"fix_logistic": True}, "fix_logistic = True, which"),
        ("tauldr", {"do_lam_embed": True}, "do_lam_embed = True, and the tensors False"),
        ("tauldr", {"shape": [3, 5, 5]}, "sides that 2 divides"),
        ("tauldr", {"rate_sigma": -1}, "rate_sigma"),
        ("vqgan", {"resolution": 9}, "not a multiple of 2"),
        ("vqgan", {"n_embed": 6}, "n_embed = 6, and the tensors 5"),
        ("vqgan", {"attn_resolutions": [8]}, "attn_resolutions = [8], and the tensors [4]"),
        ("vqgan", {"double_z": True}, "double_z = True, which"),
    ],
)
def test_settings_that_contradict_the_tensors(kind, settings, says, refused, tmp_path):
    made = release(kind, tmp_path / "in")
    assert says in refused(made.path, kind, hparams=settings_file(tmp_path, settings))


@pytest.mark.parametrize("text", ["{", "[1]", "null", '{"heads": NaN}', "[" * 100_000, '{"heads": "16"}'])
def test_settings_that_cannot_be_read(text, refused, tmp_path):
    made = release("maskgit", tmp_path / "in")
    mine = settings_file(tmp_path, text)
    said = refused(made.path, "maskgit", hparams=mine)
    assert said.startswith(str(mine))


def test_no_settings_file(refused, tmp_path):
    made = release("maskgit", tmp_path / "in")
    said = refused(made.path, "maskgit", hparams=tmp_path / "none.json")
    assert "none.json" in said


def test_without_settings_the_release_is_assumed(convert, tmp_path):
    made = release("tauldr", tmp_path / "in")
    (made.path.parent / "hparams.json").unlink()
    told = convert(made.path, "tauldr")
    assert told["assumed"] == {"shape": [3, 32, 32], "S": 256}
    recipe = resolve(told["out"], []).recipe
    assert (recipe.codec.height, recipe.codec.levels) == (32, 256)
