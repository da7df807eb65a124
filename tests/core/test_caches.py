"""The memory-mapped cache of token rows: killed builds, damaged files, and what is read back."""

import hashlib
import json
import multiprocessing
import pickle
import stat
import time

import numpy as np
import pytest
import torch
from pydantic import NonNegativeInt

from di4c_cli.core import progress
from di4c_cli.core.datasets import TensorSplit, _cache, spread
from di4c_cli.core.datasets._cache import Shard, cached
from di4c_cli.core.datasets._header import Spec
from di4c_cli.core.datasets._mapped import OPEN_MAPS, WindowSplit
from di4c_cli.errors import DataError, RunError

WIDTH, COUNTS = 5, (4, 7, 1, 0, 3)


def rows(num_states, number):
    """The tokens of one shard."""
    generator = np.random.default_rng(number)
    return generator.integers(0, num_states, (COUNTS[number], WIDTH))


def labels(number):
    return np.random.default_rng(100 + number).integers(0, 3, COUNTS[number])


def make_spec(num_states=300, num_labels=3, **key):
    return Spec("test", key, WIDTH, num_states, num_labels, state=NonNegativeInt)


class Maker:
    """Gives the shards above, notes which, and fails before the one it is told."""

    def __init__(self, spec, fail_at=None):
        self.spec, self.fail_at, self.made = spec, fail_at, []

    def __call__(self, state):
        for number in range(state or 0, len(COUNTS)):
            if number == self.fail_at:
                raise KeyboardInterrupt
            self.made.append(number)
            label = labels(number) if self.spec.num_labels else None
            skipped = ["bad.png"] if number == 1 else []
            yield Shard(rows(self.spec.num_states, number), label, number + 1, skipped)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def build(**key):
    spec = make_spec(**key)
    return spec, cached(spec, Maker(spec))


def refused(spec, match, hint="remove this file"):
    with pytest.raises(DataError, match=match) as caught:
        cached(spec, Maker(spec))
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


# -- what is read back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_states", "size"), [(2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4), (2**31 - 1, 4)]
)
def test_rows_come_back_in_the_smallest_type(num_states, size):
    spec, split = build(num_states=num_states)
    everything = np.concatenate([rows(num_states, number) for number in range(len(COUNTS))])
    index = torch.tensor([14, 0, 3, 4, 10, 11, 12, 3, 14])
    batch = split[index]
    assert len(split) == sum(COUNTS)
    assert batch.x_0.dtype == torch.int64
    assert torch.equal(batch.x_0, torch.from_numpy(everything)[index])
    every_label = np.concatenate([labels(number) for number in range(len(COUNTS))])
    assert torch.equal(batch.label, torch.from_numpy(every_label)[index])
    assert (spec.folder / "00001.npy").stat().st_size == 128 + 7 * WIDTH * size
    assert np.array_equal(np.load(spec.folder / "00001.npy"), rows(num_states, 1))  # anybody can read it
    assert np.array_equal(np.load(spec.folder / "00001.label.npy"), labels(1))


def test_parts_pickles_and_wrong_indices():
    _, split = build()
    part = split.part(3, 14).part(1, 9)
    wanted = split[torch.arange(4, 12)]
    for held in (part, pickle.loads(pickle.dumps(part))):
        assert len(held) == 8
        batch = held[torch.arange(8)]
        assert torch.equal(batch.x_0, wanted.x_0)
        assert torch.equal(batch.label, wanted.label)
        for wrong in (8, -1):
            with pytest.raises(IndexError):
                held[torch.tensor([0, wrong])]
    assert len(spread(part, 100)) == 8
    assert len(part[torch.tensor([], dtype=torch.int64)]) == 0


def test_a_cache_without_labels_has_none():
    spec, split = build(num_labels=0)
    assert split[torch.arange(2)].label is None
    assert not list(spec.folder.glob("*.label.npy"))


def test_more_shards_than_a_process_has_files(monkeypatch):
    import resource

    num, write = OPEN_MAPS + 100, _cache.write_header
    monkeypatch.setattr(_cache, "_fsync", lambda folder: None)
    monkeypatch.setattr(
        _cache, "write_header", lambda folder, header: header.complete and write(folder, header)
    )
    spec = Spec("many", {}, 1, 10_000, state=NonNegativeInt)
    split = cached(spec, lambda state: (Shard(np.array([[n]]), state=n + 1) for n in range(state or 0, num)))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_MAPS + 80, before[1]))
    try:
        assert split[torch.arange(num)].x_0.flatten().tolist() == list(range(num))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("stride", [1, 2, 3, WIDTH, 7])
def test_windows_are_all_windows(stride):
    _, split = build(num_labels=0)
    flat = split[torch.arange(len(split))].x_0.flatten()
    wanted = flat.unfold(0, WIDTH, stride)
    for held in (split, TensorSplit(flat.view(-1, WIDTH).to(torch.int16))):
        windows = WindowSplit(held, WIDTH, stride)
        assert len(windows) == len(wanted)
        assert torch.equal(windows[torch.arange(len(windows))].x_0, wanted)


# -- builds ----------------------------------------------------------------------------------------


def test_a_finished_cache_asks_for_nothing(monkeypatch):
    spec, _ = build()
    monkeypatch.setattr(_cache, "_locked", None)  # nor does it lock or write anything
    maker = Maker(spec)
    cached(spec, maker)
    assert maker.made == []
    others = [make_spec(other="setting"), make_spec(num_states=299), make_spec(num_labels=4)]
    others.append(Spec("test", {}, WIDTH + 1, 300, 3, state=NonNegativeInt))
    assert len({spec.folder, *(other.folder for other in others)}) == 5


@pytest.mark.parametrize("stops", [[0], [3], [4], [1, 2, 2]])
def test_a_killed_build_goes_on_and_gives_the_same_bytes(stops, tmp_path, monkeypatch):
    whole = content(build()[0].folder)
    monkeypatch.setenv("DI4C_RUNS", str(tmp_path / "again"))
    spec, made = make_spec(), []
    for stop in stops:
        maker = Maker(spec, stop)
        with pytest.raises(KeyboardInterrupt):
            cached(spec, maker)
        made += maker.made
        header = spec.folder / "header.json"
        assert not header.exists() or not json.loads(header.read_text())["complete"]
    last = Maker(spec)
    split = cached(spec, last)
    assert last.made == list(range(stops[-1], len(COUNTS)))  # and none of these before
    assert sorted(made + last.made) == list(range(len(COUNTS)))
    assert len(split) == sum(COUNTS)
    assert content(spec.folder) == whole


@pytest.mark.parametrize("moment", ["written", "replaced"])
def test_a_kill_while_a_shard_is_written_leaves_no_half_of_it(moment, monkeypatch):
    spec, real, calls = make_spec(), _cache.os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == 5:  # two files a shard: the tokens of the third
            if moment == "replaced":
                real(source, target)
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(_cache.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        cached(spec, Maker(spec))
    monkeypatch.undo()
    monkeypatch.setenv("DI4C_RUNS", str(spec.folder.parent.parent))
    maker = Maker(spec)
    cached(spec, maker)
    files = content(spec.folder)
    assert not [name for name in files if name.endswith(".tmp")]
    recorded = json.loads(files["header.json"])["shards"]
    for number, record in enumerate(recorded):
        assert record["sha256"] == hashlib.sha256(files[f"{number:05d}.npy"]).hexdigest()
        assert record["label_sha256"] == hashlib.sha256(files[f"{number:05d}.label.npy"]).hexdigest()


@pytest.mark.parametrize("name", ["00000.npy", "00002.label.npy", "00004.npy"])
def test_a_removed_shard_is_made_anew_alone(name):
    spec, _ = build()
    whole = content(spec.folder)
    (spec.folder / name).unlink()
    maker = Maker(spec)
    cached(spec, maker)
    assert maker.made == [int(name[:5])]
    assert content(spec.folder) == whole


def test_a_removed_shard_of_another_source_is_not_made_up():
    spec, _ = build()
    (spec.folder / "00001.npy").unlink()
    with pytest.raises(DataError, match="source has changed"):
        cached(spec, lambda state: iter([Shard(rows(300, 1), labels(1), state=7)]))
    with pytest.raises(DataError, match="source has changed"):
        cached(spec, lambda state: iter([]))


def test_what_a_killed_process_left_is_swept_up():
    spec = make_spec()
    spec.folder.mkdir(parents=True)
    (spec.folder / ".00000.npy.1.tmp").write_bytes(b"half")
    cached(spec, Maker(spec))
    assert not list(spec.folder.glob(".*.tmp"))


def test_a_shard_is_on_disk_before_the_header_names_it(monkeypatch):
    """A power cut keeps renames and loses content, unless the content was forced out before."""
    spec, events = make_spec(num_labels=0), []
    real_replace, real_fsync = _cache.os.replace, _cache.os.fsync

    def fsync(descriptor):
        is_folder = stat.S_ISDIR(_cache.os.fstat(descriptor).st_mode)
        events.append("fsync folder" if is_folder else "fsync")
        real_fsync(descriptor)

    def replace(source, target):
        events.append("header" if target.name == "header.json" else "shard")
        real_replace(source, target)

    monkeypatch.setattr(_cache.os, "fsync", fsync)
    monkeypatch.setattr(_cache.os, "replace", replace)
    cached(spec, Maker(spec))
    assert events == ["fsync", "shard", "fsync folder", "fsync", "header"] * 5 + ["fsync", "header"]


@pytest.mark.parametrize("calls_that_work", [0, 1, 2, 5, 9, 10, 11])
def test_a_full_disk_keeps_what_is_done(calls_that_work, monkeypatch):
    spec, calls = make_spec(), []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) > calls_that_work:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(_cache.os, "fsync", fsync)
    with pytest.raises(RunError, match="No space left") as caught:
        cached(spec, Maker(spec))
    assert str(spec.folder) in caught.value.message
    monkeypatch.setattr(_cache.os, "fsync", lambda descriptor: None)
    assert not [path for path in spec.folder.iterdir() if path.suffix == ".tmp"]
    maker = Maker(spec)
    cached(spec, maker)
    assert maker.made == list(range(calls_that_work // 5, len(COUNTS)))  # five calls a shard


def test_a_place_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("DI4C_RUNS", "/dev/null/runs")
    with pytest.raises(RunError, match="cannot write the cache"):
        build()


def build_slowly(folder, log):
    import os

    os.environ["DI4C_RUNS"] = folder
    spec = make_spec()
    maker = Maker(spec)

    def slow(state):
        for shard in maker(state):
            time.sleep(0.05)
            yield shard

    remarks = []
    with progress.reporting(remark=remarks.append):
        split = cached(spec, slow)
    total = split[torch.arange(len(split))].x_0.sum().item()
    with open(log, "a") as file:
        file.write(json.dumps([maker.made, total, remarks]) + "\n")


def test_two_processes_build_one_cache_once(tmp_path):
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "both"), str(tmp_path / "log"))
    processes = [context.Process(target=build_slowly, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    wanted = sum(rows(300, number).sum().item() for number in range(len(COUNTS)))
    assert [total for _, total, _ in lines] == [wanted] * 3
    assert sorted(len(made) for made, _, _ in lines) == [0, 0, len(COUNTS)]
    remarks = sorted(line.partition(" ")[2] for _, _, lines_of_one in lines for line in lines_of_one)
    assert remarks[1:] == ["another process is building this cache; waiting for it"] * 2
    assert remarks[0].startswith("1 could not be read")  # told by the one that built


def test_progress_and_what_was_left_out_are_told():
    told, remarks = [], []
    with progress.reporting(lambda *line: told.append(line), remarks.append):
        spec, _ = build()
        cached(spec, Maker(spec))
    progress.report(1, 2, "nobody listens")
    assert told[-1] == (5, 5, "test: checking the cache")
    assert remarks == ["test: 1 could not be read and are left out: bad.png"]


def test_a_maker_of_wrong_tokens_is_a_bug():
    for wrong in (300, -1):
        with pytest.raises(ValueError, match=str(wrong)):
            cached(make_spec(wrong=wrong), lambda state, x=wrong: iter([Shard(np.full((1, WIDTH), x))]))


# -- damaged and hostile files ---------------------------------------------------------------------


def array_file(array):
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


DAMAGE = {
    "truncated": lambda raw: raw[:-1],
    "empty": lambda raw: b"",
    "longer": lambda raw: raw + b"\0",
    "another shape": lambda raw: array_file(np.zeros((WIDTH, 7), np.uint16)),
    "another type": lambda raw: array_file(np.zeros((7, WIDTH), np.int16)),
    "column major": lambda raw: array_file(np.asfortranarray(np.zeros((7, WIDTH), np.uint16))),
    "a pickle": lambda raw: array_file(np.array([[object()] * WIDTH] * 7)),
    "no array": lambda raw: b"x" * len(raw),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("complete", [True, False])
def test_a_damaged_shard_is_named(damage, complete):
    spec = make_spec()
    if complete:
        cached(spec, Maker(spec))
    else:
        with pytest.raises(KeyboardInterrupt):
            cached(spec, Maker(spec, 3))
    path = spec.folder / "00001.npy"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    refused(spec, r"00001\.npy: damaged: ")
    path.unlink()  # as the hint says
    assert len(cached(spec, Maker(spec))) == sum(COUNTS)


def test_a_link_is_not_followed(tmp_path):
    spec, _ = build()
    path = spec.folder / "00002.npy"
    outside = tmp_path / "outside.npy"
    path.rename(outside)
    path.symlink_to(outside)
    refused(spec, r"00002\.npy: damaged: a link")


def test_changed_bytes_are_found_when_a_build_ends():
    spec = make_spec()
    with pytest.raises(KeyboardInterrupt):
        cached(spec, Maker(spec, 3))
    for name in ("00000.npy", "00001.label.npy"):
        path = spec.folder / name
        raw = path.read_bytes()
        path.write_bytes(raw[:-4] + bytes([raw[-4] ^ 1]) + raw[-3:])
        refused(spec, f"{name}: damaged: its hash")
        path.write_bytes(raw)
    cached(spec, Maker(spec))


def test_tokens_that_are_no_states_are_found_when_they_are_read():
    spec, _ = build()
    path = spec.folder / "00001.npy"
    path.write_bytes(path.read_bytes()[:-2] + (300).to_bytes(2, "little"))
    split = cached(spec, Maker(spec))
    split[torch.arange(10)]
    with pytest.raises(DataError, match=r"not states in one of 00001\.npy"):
        split[torch.tensor([10])]


def test_labels_that_are_no_classes_are_found():
    spec, _ = build()
    path = spec.folder / "00001.label.npy"
    path.write_bytes(path.read_bytes()[:-4] + (3).to_bytes(4, "little"))
    refused(spec, r"00001\.label\.npy: damaged: not all labels")


def edited(**changes):
    return lambda header: header | changes


def with_record(**changes):
    return lambda header: header | {"shards": [header["shards"][0] | changes, *header["shards"][1:]]}


HEADERS = {
    "no object": lambda header: [],
    "another format": edited(format=2),
    "a key more": edited(path="/etc/passwd"),
    "other settings": lambda header: header | {"key": header["key"] | {"width": 6}},
    "shards no list": edited(shards={}),
    "shards no records": edited(shards=["/etc/passwd"]),
    "complete no truth": edited(complete="yes"),
    "rows below 0": with_record(rows=-4),
    "rows a fraction": with_record(rows=4.5),
    "hash no hash": with_record(sha256="../../secret"),
    "no hash of labels": with_record(label_sha256=None),
    "a path": with_record(file="../x.npy"),
    "state of another type": with_record(state={"place": 0}),
    "state below 0": with_record(state=-1),
    "skipped no names": with_record(skipped=[1]),
}


@pytest.mark.parametrize("change", HEADERS)
@pytest.mark.parametrize("complete", [True, False])
def test_a_header_that_was_tampered_with(change, complete):
    spec, _ = build()
    path = spec.folder / "header.json"
    header = json.loads(path.read_text()) | {"complete": complete}
    path.write_text(json.dumps(HEADERS[change](header)))
    refused(spec, r"header\.json: (damaged|made for other settings)", "remove this folder")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_header_that_is_no_json(raw):
    spec, _ = build()
    (spec.folder / "header.json").write_bytes(raw)
    refused(spec, r"header\.json: damaged", "remove this folder")


def test_more_rows_than_the_file_has():
    spec, _ = build()
    path = spec.folder / "header.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps(with_record(rows=2**60)(header)))
    refused(spec, r"00000\.npy: damaged")
