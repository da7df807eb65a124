"""Image data sets with any codec: CIFAR-10, MNIST patches, folders of pictures in a cache."""

import errno
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from di4c_cli.core import _vision, checkpoints, datasets, progress
from di4c_cli.core.codecs import ImageCodec, characters, patches, pixels
from di4c_cli.core.datasets import _pictures, cifar10, imagenet, mnist
from di4c_cli.core.datasets._codec import identity
from di4c_cli.core.datasets._images import FlippedSplit
from di4c_cli.core.datasets._pictures import Pictures, read_picture
from di4c_cli.core.space import StateSpace
from di4c_cli.errors import DataError, RecipeError

DATA = Path(os.environ.get("DI4C_DATA") or "missing")


class MeanCodec(ImageCodec):
    """A token a patch of 4x4 pixels: its mean in 256 levels, one more at the left half of an image."""

    def __init__(self, shape, fail_at=None):
        self.image_shape = shape
        self.space = StateSpace(shape=(1, shape[1] // 4, shape[2] // 4), num_states=257)
        self._fail_at, self._calls = fail_at, []

    @property
    def calls(self):
        return self._calls

    def encode(self, images):
        if len(self._calls) == self._fail_at:
            raise KeyboardInterrupt
        self._calls.append(len(images))
        means = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4) * 255
        tokens = means.round().long()
        tokens[..., : tokens.shape[-1] // 2] += 1
        return tokens.flatten(1)

    def decode(self, tokens):
        raise NotImplementedError


def pixel_codec(channels, side, levels=256):
    return pixels.Config(height=side, width=side, channels=channels, levels=levels).build()


def everything(split):
    return split[torch.arange(len(split))]


# -- CIFAR-10 --------------------------------------------------------------------------------------


def checksum(path):
    import hashlib

    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """The published files with 3 images each, which torchvision takes for the real ones."""
    CIFAR10 = _vision.import_torchvision().datasets.CIFAR10
    folder = tmp_path / "data" / cifar10.FOLDER
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        values = np.random.default_rng(number).integers(0, 256, (3, 3072), dtype=np.uint8)
        batch = {"data": values, "labels": [number, number + 1, number + 2]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    listed = [[name, checksum(folder / name)] for name in names]
    meta = {**CIFAR10.meta, "md5": checksum(folder / "batches.meta")}
    monkeypatch.setattr(CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(CIFAR10, "test_list", listed[5:])
    monkeypatch.setattr(CIFAR10, "meta", meta)
    monkeypatch.setenv("DI4C_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize("place", ["data", "data/cifar10", "cache/di4c"])
def test_cifar10_in_every_place(place, batches, tmp_path):
    target = tmp_path / place / cifar10.FOLDER
    if target != batches:
        target.parent.mkdir(parents=True)
        batches.rename(target)
    data = cifar10.Config(flips=False).build(pixel_codec(3, 32))
    x = everything(data.train)
    first = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8))
    assert torch.equal(x.x_0[:3], first.long())  # all 256 levels, in the order channel, row, column
    assert x.label.tolist() == [k + i for k in range(5) for i in range(3)]
    assert everything(data.test).label.tolist() == [5, 6, 7]
    assert data.train.x_0.dtype == torch.uint8
    assert x.x_0.dtype == torch.int64


def test_cifar10_never_opens_a_pickle_of_another_checksum(batches, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (batches / "data_batch_3").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=f"{cifar10.FOLDER}: Dataset not found or corrupted"):
        cifar10.Config().build(pixel_codec(3, 32))
    assert not (tmp_path / "exploded").exists()


def test_cifar10_tells_of_a_failed_download(batches, tmp_path, monkeypatch):
    shutil.rmtree(batches)

    def offline(self):
        raise OSError("no network")

    monkeypatch.setattr(_vision.import_torchvision().datasets.CIFAR10, "download", offline)
    with pytest.raises(DataError, match=f"CIFAR-10 could not be downloaded to {tmp_path / 'cache/di4c'}: no"):
        cifar10.Config().build(pixel_codec(3, 32))


@pytest.mark.parametrize("codec", [pixel_codec(3, 16, 8), MeanCodec((3, 16, 16)), MeanCodec((3, 8, 32))])
def test_flips_are_the_second_half(codec, batches):
    plain = everything(cifar10.Config(flips=False).build(codec).train)
    data = cifar10.Config().build(codec)
    assert isinstance(data.train, FlippedSplit) == isinstance(codec, pixels.PixelCodec)
    both = everything(data.train)
    assert len(data.train) == 30
    assert torch.equal(both.x_0[:15], plain.x_0)
    raw = np.concatenate(
        [np.random.default_rng(n).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8) for n in range(5)]
    )
    _, height, width = codec.image_shape
    images = torch.from_numpy(raw).float() / 255
    images = images.unflatten(2, (height, -1)).unflatten(4, (width, -1)).mean((3, 5))
    assert torch.equal(both.x_0[15:], codec.encode(images.flip(-1)))
    assert torch.equal(both.label, plain.label.repeat(2))
    some = torch.tensor([29, 3, 15])
    assert torch.equal(data.train[some].x_0, both.x_0[some])
    assert len(data.test) == 3


def test_image_sizes_that_do_not_fit():
    for config, wrong, right in (
        (cifar10.Config(), (3, 12, 16), "32x32"),
        (cifar10.Config(), (1, 16, 16), "channels = 3"),
        (mnist.Config(), (3, 12, 12), "24x24"),
        (mnist.Config(), (1, 14, 14), "24x24"),
        (imagenet.Config(), (2, 16, 16), "channels"),
    ):
        for ask in (config.images, lambda shape, config=config: config.build(MeanCodec(shape))):
            with pytest.raises(RecipeError) as caught:
                ask(wrong)
            assert right in str(caught.value)
    for config in (cifar10.Config(), mnist.Config(), imagenet.Config()):
        assert isinstance(config, datasets.ImageConfig)
        with pytest.raises(RecipeError, match=r"codec\.kind"):
            config.build(characters.Config(length=3).build())


@pytest.mark.skipif(not (DATA / "cifar10-lossless4k").is_dir(), reason="needs $DI4C_DATA/cifar10-lossless4k")
def test_cifar10_lossless():
    config = cifar10.Config(source="lossless4k")
    data = config.build(pixel_codec(3, 16))
    assert (len(data.train), len(data.test)) == (7200, 400)
    label = everything(data.train).label
    assert label[:8].tolist() == [6, 9, 9, 4, 1, 1, 2, 7]
    both = torch.cat([label[:3600], everything(data.test).label])
    assert both.bincount().tolist() == [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
    images = config.images((3, 32, 32))
    assert images.shape == (3600, 3, 32, 32)
    sheet = np.asarray(Image.open(DATA / "cifar10-lossless4k" / "cifar10_batch_1.png"))
    assert torch.equal(
        images[1000], torch.from_numpy(sheet[0].reshape(32, 32, 3) / 255).permute(2, 0, 1).float()
    )
    means = images[0].unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean((2, 4))
    assert torch.equal(data.train[torch.tensor([0])].x_0[0], (means * 256).long().clamp(max=255).flatten())


def test_cifar10_lossless_errors(tmp_path, monkeypatch):
    build = lambda: cifar10.Config(source="lossless4k").build(pixel_codec(3, 32))  # noqa: E731
    monkeypatch.delenv("DI4C_DATA", raising=False)
    with pytest.raises(DataError, match=r"DI4C_DATA is not set"):
        build()
    monkeypatch.setenv("DI4C_DATA", str(tmp_path))
    folder = tmp_path / "cifar10-lossless4k"
    folder.mkdir()
    with pytest.raises(DataError, match=r"cifar10_batch_0\.png: No such file"):
        build()
    whole = Image.fromarray(np.zeros((1000, 1024, 3), np.uint8))
    for i in range(4):
        whole.save(folder / f"cifar10_batch_{i}.png")
    for text in ("", "1\n" * 3999, "1\n" * 3999 + "10\n", "1\n" * 3999 + "-1\n", "x"):
        (folder / "labels.txt").write_text(text)
        with pytest.raises(DataError, match=r"labels\.txt"):
            build()
    (folder / "labels.txt").write_text("1\n" * 4000)
    assert len(build().test) == 400
    path = folder / "cifar10_batch_2.png"
    for damage in (b"", path.read_bytes()[:-100], b"GIF89a"):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=r"cifar10_batch_2\.png"):
            build()
    Image.fromarray(np.zeros((1000, 1023, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"cifar10_batch_2\.png: not a picture of"):
        build()


# -- MNIST -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="needs $DI4C_DATA/mnist")
def test_mnist_with_a_codec_of_patches():
    codec = MeanCodec((1, 24, 24))
    data = mnist.Config().build(codec)
    images = mnist.Config().images((1, 24, 24))
    assert images.shape == (20_000, 1, 24, 24)
    assert (images.min(), images.max()) == (0, 1)
    assert (len(data.train), data.train.x_0.shape[1]) == (60_000, 36)
    assert torch.equal(data.train[torch.tensor([59_999])].x_0, codec.encode(images[-1:]))


# -- folders of pictures ---------------------------------------------------------------------------


def write_pictures(root, counts, size=(20, 16), mode="RGB", suffix=".png"):
    """One folder a class, each picture of its own random pixels."""
    for label, num in enumerate(counts):
        folder = root / f"class-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(num):
            channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
            values = np.random.default_rng([label, i]).integers(0, 256, (size[1], size[0], channels))
            picture = Image.fromarray(
                values.astype(np.uint8).squeeze(-1) if channels == 1 else values.astype(np.uint8), mode
            )
            picture.save(root / f"class-{label}" / f"{i:02d}{suffix}")
    return root


def middle(label, i):
    values = np.random.default_rng([label, i]).integers(0, 256, (16, 20, 3))
    return torch.from_numpy(values[:, 2:18].astype(np.uint8)).permute(2, 0, 1)


def test_pictures_become_tokens_and_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "SHARD_IMAGES", 4)
    write_pictures(tmp_path / "train", [3, 4])
    write_pictures(tmp_path / "val", [1, 2])
    told = []
    with progress.reporting(lambda *line: told.append(line)):
        data = imagenet.Config(path=str(tmp_path / "train")).build(pixel_codec(3, 16))
    train, test = everything(data.train), everything(data.test)
    order = [(0, 0), (0, 1), (0, 2), (1, 0)], [(1, 1), (1, 2), (1, 3)]  # of two shards
    wanted = [
        image.flip(-1) if flip else image
        for shard in order
        for flip in (False, True)
        for image in (middle(*place) for place in shard)
    ]
    assert torch.equal(train.x_0, torch.stack(wanted).long().flatten(1))
    assert train.label.tolist() == [0, 0, 0, 1] * 2 + [1] * 6
    assert torch.equal(test.x_0, torch.stack([middle(0, 0), middle(1, 0), middle(1, 1)]).long().flatten(1))
    assert test.label.tolist() == [0, 1, 1]
    assert (7, 7, "imagenet-train: encoding") in told
    plain = imagenet.Config(path=str(tmp_path / "train"), flips=False).build(pixel_codec(3, 16))
    assert everything(plain.train).label.tolist() == [0, 0, 0, 1, 1, 1, 1]
    images = imagenet.Config(path=str(tmp_path / "train")).images((3, 16, 16))
    assert torch.equal((images * 255).round().to(torch.uint8)[3], middle(1, 0))


def test_the_place_and_the_share_that_is_held_out(tmp_path, monkeypatch):
    monkeypatch.delenv("DI4C_DATA", raising=False)
    with pytest.raises(DataError, match="DI4C_DATA"):
        imagenet.Config().build(pixel_codec(3, 16))
    monkeypatch.setenv("DI4C_DATA", str(tmp_path))
    with pytest.raises(DataError, match="imagenet/train: No such file"):
        imagenet.Config().build(pixel_codec(3, 16))
    write_pictures(tmp_path / "imagenet" / "train", [5, 1, 8])
    data = imagenet.Config(held_out=0.25).build(pixel_codec(3, 16))
    assert everything(data.test).label.tolist() == [0, 2, 2]
    assert torch.equal(everything(data.test).x_0[0], middle(0, 4).long().flatten())
    assert len(data.train) == 2 * (4 + 1 + 6)
    with pytest.raises(DataError, match="no class has enough"):
        imagenet.Config(held_out=0.1).build(pixel_codec(3, 16))
    write_pictures(tmp_path / "other", [1, 1])
    with pytest.raises(DataError, match="not the class folders"):
        imagenet.Config(test_path=str(tmp_path / "other")).build(pixel_codec(3, 16))
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(DataError, match="no pictures in class folders"):
        imagenet.Config(path=str(tmp_path / "empty")).build(pixel_codec(3, 16))


def test_a_killed_build_of_pictures_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "SHARD_IMAGES", 4)
    monkeypatch.setattr(_pictures, "AT_ONCE", 2)
    write_pictures(tmp_path / "train", [7, 8])
    write_pictures(tmp_path / "val", [1, 1])
    config, shape = imagenet.Config(path=str(tmp_path / "train")), (3, 16, 16)
    whole = MeanCodec(shape)
    wanted = everything(config.build(whole).train)
    files = {p.name: p.read_bytes() for p in (tmp_path / "runs/.cache").glob("*train*/*")}
    assert len(whole.calls) == 16 + 1
    for stop in (0, 3, 4, 9, 14):
        monkeypatch.setenv("DI4C_RUNS", str(tmp_path / f"again-{stop}"))
        with pytest.raises(KeyboardInterrupt):
            config.build(MeanCodec(shape, stop))
        rest = MeanCodec(shape)
        again = everything(config.build(rest).train)
        assert torch.equal(again.x_0, wanted.x_0)
        assert torch.equal(again.label, wanted.label)
        assert len(rest.calls) == len(whole.calls) - stop // 4 * 4  # four calls a shard
        now = {p.name: p.read_bytes() for p in (tmp_path / f"again-{stop}/.cache").glob("*train*/*")}
        assert now == files


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_one_bad_picture_does_not_lose_the_others(tmp_path, monkeypatch):
    write_pictures(tmp_path / "train", [9, 9])
    write_pictures(tmp_path / "val", [1, 1])
    bad = tmp_path / "train" / "class-1"
    (bad / "03.png").write_bytes((bad / "03.png").read_bytes()[:-200])
    (bad / "04.png").write_bytes(b"")
    Image.open(bad / "05.png").save(bad / "05.png", format="PCX")  # no format that is asked for
    for number, side in enumerate((8200, 9500, 14_000)):  # whole, but 67, 90 and 196 million pixels
        Image.new("1", (side, side)).save(bad / f"1{number}.png")
    remarks = []
    with progress.reporting(remark=remarks.append):
        data = imagenet.Config(path=str(tmp_path / "train"), flips=False).build(pixel_codec(3, 16))
    assert everything(data.train).label.tolist() == [0] * 9 + [1] * 6
    assert torch.equal(everything(data.train).x_0[12], middle(1, 6).long().flatten())
    some = "class-1/03.png, class-1/04.png, class-1/05.png ..."
    assert remarks == [f"imagenet-train: 6 could not be read and are left out: {some}"]
    header = json.loads((data.train.folder / "header.json").read_text())
    assert [len(record["skipped"]) for record in header["shards"]] == [6]


def test_most_pictures_damaged_is_an_error(tmp_path):
    write_pictures(tmp_path / "train", [2, 3])
    write_pictures(tmp_path / "val", [1, 1])
    for i in range(3):
        (tmp_path / "train" / "class-1" / f"0{i}.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"3 of 5 pictures are damaged, such as class-1/00\.png"):
        imagenet.Config(path=str(tmp_path / "train")).build(pixel_codec(3, 16))


def test_a_disk_in_trouble_is_no_damaged_picture(tmp_path, monkeypatch):
    write_pictures(tmp_path / "train", [9])
    write_pictures(tmp_path / "val", [1])

    def read_bytes(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(DataError, match=r"class-0/0\d\.png: Input/output error"):
        next(Pictures.find(tmp_path / "train").read(0, 9, (3, 16, 16), _pictures.ThreadPoolExecutor(1)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("size", [(20, 16), (3, 40), (1, 5000), (500, 300)])
def test_pictures_of_any_size_and_mode(mode, size, tmp_path):
    path = write_pictures(tmp_path, [1], size, mode) / "class-0" / "00.png"
    for shape in ((3, 16, 16), (1, 8, 24)):
        picture = read_picture(path, shape)
        assert picture.shape == (shape[1], shape[2], shape[0])
        assert picture.std() > 1


def test_the_middle_is_kept_and_reduced_smoothly(tmp_path):
    values = np.zeros((32, 96, 3), np.uint8)
    values[:, 32:48, 0], values[:, 48:64, 1] = 200, 100
    values[:, :32, 2] = values[:, 64:, 2] = 255  # cut off
    values[::2] = 0
    Image.fromarray(values).save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png", (3, 8, 8))
    assert picture[2:6, 1, 0].tolist() == [100] * 4
    assert picture[2:6, 6, 1].tolist() == [50] * 4
    assert picture[:, 1:-1, 2].max() == 0
    assert picture[:, [0, -1], 2].max() < 20  # smoothed over the edge


def test_pictures_are_found_by_name(tmp_path):
    write_pictures(tmp_path, [2, 1])
    first = Pictures.find(tmp_path)
    (tmp_path / "class-0" / "notes.txt").write_text("no picture")
    (tmp_path / "stray.png").write_bytes(b"in no class")
    assert Pictures.find(tmp_path).identity() == first.identity()
    (tmp_path / "class-1" / "deep").mkdir()
    shutil.copy(tmp_path / "class-0" / "00.png", tmp_path / "class-1" / "deep" / "X.JPEG")
    more = Pictures.find(tmp_path)
    assert more.files == ["class-0/00.png", "class-0/01.png", "class-1/00.png", "class-1/deep/X.JPEG"]
    assert more.label == [0, 0, 1, 1]
    assert more.identity() != first.identity()
    (tmp_path / "class-1" / "deep" / "X.JPEG").rename(tmp_path / "class-1" / "X.JPEG")
    assert Pictures.find(tmp_path).identity() != more.identity()


def test_another_codec_is_another_cache(tmp_path):
    write_pictures(tmp_path / "train", [2])
    write_pictures(tmp_path / "val", [1])
    config = imagenet.Config(path=str(tmp_path / "train"))
    folders = {
        config.build(codec).train.folder
        for codec in (pixel_codec(3, 16), pixel_codec(3, 16, 255), pixel_codec(1, 16), MeanCodec((3, 16, 16)))
    }
    assert len(folders) == 4
    assert config.build(pixel_codec(3, 16)).train.folder in folders
    shutil.copy(tmp_path / "train/class-0/00.png", tmp_path / "train/class-0/02.png")
    assert len(config.build(pixel_codec(3, 16)).train) == 6


def test_other_weights_of_a_codec_are_another_cache_wherever_they_lie(tmp_path):
    write_pictures(tmp_path / "train", [3])
    write_pictures(tmp_path / "val", [1])

    def built(name, codebook):
        sizes = {"channels": 3, "patch": 8, "num_codes": 2}
        config = {"role": "codec", "kind": "patches", "architecture": sizes}
        checkpoints.save(tmp_path / name, config=config, model={"codebook": codebook}, ema=None, card="")
        codec = patches.Config(
            height=16, width=16, channels=3, patch=8, num_codes=2, checkpoint=str(tmp_path / name)
        ).build()
        before = identity(codec)
        split = imagenet.Config(path=str(tmp_path / "train")).build(codec).train
        assert identity(codec) == before  # although it has read its weights
        return split

    codebook = torch.linspace(0, 1, 2)[:, None, None, None].expand(2, 3, 8, 8).contiguous()
    first, moved, other = built("a", codebook), built("b", codebook), built("a", 1 - codebook)
    assert first.folder == moved.folder != other.folder
    assert torch.equal(everything(other).x_0, 1 - everything(first).x_0)
