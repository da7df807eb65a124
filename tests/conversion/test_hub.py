"""Repositories of the Hugging Face Hub, by a stand-in for its package."""

import sys
from pathlib import Path

import pytest
from released import release

from di4c_cli.core import checkpoints


class Hub:
    """In the place of huggingface_hub."""

    def __init__(self, folder, error=None):
        self.folder, self.error, self.asked = folder, error, None

    def snapshot_download(self, repository, *, revision, allow_patterns):
        self.asked = (repository, revision, allow_patterns)
        if self.error:
            raise self.error
        return str(self.folder)


def test_from_the_hub(convert, monkeypatch, tmp_path):
    made = release("sdtt", tmp_path / "snapshots" / "0123abcd")
    hub = Hub(made.path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    told = convert("hf:jdeschena/sdtt@baselines_kld_step_70000", "sdtt")
    repository, revision, patterns = hub.asked
    assert (repository, revision) == ("jdeschena/sdtt", "baselines_kld_step_70000")
    assert {"model.safetensors", "config.json"} <= set(patterns)
    source = checkpoints.read_config(Path(told["out"]))["source"]
    assert source["repository"] == "jdeschena/sdtt"
    assert source["revision"] == "0123abcd"


def test_a_file_inside_a_repository(convert, monkeypatch, tmp_path):
    release("vqgan", tmp_path / "snap" / "pretrained" / "VQGAN")
    hub = Hub(tmp_path / "snap")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    told = convert("hf:llvictorll/Maskgit-pytorch/pretrained/VQGAN/last.ckpt", "vqgan")
    assert told["assumed"] == {}  # the model.yaml beside it was found
    repository, revision, patterns = hub.asked
    assert (repository, revision) == ("llvictorll/Maskgit-pytorch", None)
    assert {"pretrained/VQGAN/last.ckpt", "pretrained/VQGAN/model.yaml"} <= set(patterns)


def test_without_the_hub_package(refused, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = refused("hf:kuleshov-group/mdlm-owt", "mdlm")
    assert "pip install 'di4c[hub]'" in said


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionError("no way out\n  of here"), "not downloaded: no way out"),
        (RuntimeError(""), "RuntimeError"),
        (None, "the repository holds no model.safetensors"),
    ],
)
def test_a_download_that_fails(error, says, refused, monkeypatch, tmp_path):
    (tmp_path / "snap").mkdir()
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(tmp_path / "snap", error))
    assert says in refused("hf:kuleshov-group/mdlm-owt", "mdlm")


def test_no_repository_name(refused, tmp_path):
    assert "not a repository" in refused("hf:mdlm-owt", "mdlm")
