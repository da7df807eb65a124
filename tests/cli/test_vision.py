"""The way to torchvision, and picture files."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from di4c_cli.core import _vision


def test_torchvision_imports_and_so_does_what_needs_it():
    program = """
import torch
from di4c_cli.core._vision import import_torchvision
first = import_torchvision()
assert import_torchvision() is first
from torchmetrics.image.fid import FrechetInceptionDistance
from torchvision import datasets
assert first.utils.make_grid(torch.zeros(2, 1, 3, 3)).shape[0] == 3
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_pictures_do_not_wait_for_torchvision(tmp_path):
    program = f"""
import sys, torch
from pathlib import Path
from di4c_cli.core._vision import save_grid
save_grid(torch.zeros(3, 1, 8, 8), Path({str(tmp_path / "grid.png")!r}))
assert not {{"torchvision", "torch._dynamo"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert (tmp_path / "grid.png").is_file()


def test_other_failures_are_not_hidden(monkeypatch):
    def broken(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(_vision.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="something else"):
        _vision.import_torchvision()


def test_small_images_are_enlarged_without_smoothing(tmp_path):
    images = torch.zeros(3, 1, 8, 8)
    images[0, 0, 0, 0] = 1.0
    images[1] = 0.5
    _vision.save_grid(images, tmp_path / "grid.png", columns=2, min_tile=30, padding=2)
    picture = Image.open(tmp_path / "grid.png")
    assert picture.mode == "L"
    assert picture.size == (2 + 2 * (32 + 2), 2 + 2 * (32 + 2))  # 8 pixels, enlarged four times
    pixels = np.asarray(picture)
    assert (pixels[2:6, 2:6] == 255).all()
    assert pixels[2:34, 2:34].sum() == 16 * 255
    assert (pixels[2:34, 36:68] == 128).all()


@pytest.mark.parametrize(("num", "columns", "channels"), [(5, 3, 3), (2, 4, 1), (6, 3, 1)])
def test_tiles_lie_as_torchvision_lays_them(num, columns, channels):
    images = torch.rand(num, channels, 4, 6)
    make_grid = _vision.import_torchvision().utils.make_grid
    wanted = make_grid(images, nrow=columns, padding=2, pad_value=0.5)[:channels]
    assert torch.equal(_vision.tiled(images, min(columns, num), 2), wanted)


def test_colour_and_range(tmp_path):
    images = torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1).expand(4, 3, 40, 40)
    _vision.save_grid(images, tmp_path / "grid.png", padding=0)
    picture = Image.open(tmp_path / "grid.png")
    assert (picture.mode, picture.size) == ("RGB", (80, 80))  # large enough as they are
    assert picture.getpixel((5, 5)) == (0, 128, 255)


def test_the_same_images_give_the_same_bytes_and_nothing_else(tmp_path):
    images = torch.rand(5, 1, 8, 8)
    for name in ("a.png", "b.png"):
        _vision.save_grid(images, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "grid.png"
    path.write_bytes(b"old")

    def full(self, file, format):
        file.write_bytes(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        _vision.save_grid(torch.rand(1, 1, 8, 8), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
