"""Running text: files in pieces, packing, windows, the corpus from the hub."""

import gzip
import json
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from di4c_cli.core import progress
from di4c_cli.core.codecs import TextCodec, characters, gpt2, pixels
from di4c_cli.core.component import config_class
from di4c_cli.core.datasets import TensorSplit, _documents, _download, _packing, openwebtext, text
from di4c_cli.core.datasets._documents import TextFiles
from di4c_cli.core.datasets._mapped import MappedSplit
from di4c_cli.core.space import StateSpace
from di4c_cli.errors import DataError, RecipeError

DATA = Path(os.environ.get("DI4C_DATA") or "missing")
END = 256


class ByteCodec(TextCodec):
    """Bytes, and a token for the end of a document."""

    document_end = END

    def __init__(self, length, fail_at=None):
        self.space = StateSpace(shape=(length,), num_states=END + 1)
        self._fail_at, self._calls = fail_at, []

    @property
    def calls(self):
        return self._calls

    def tokenize(self, text):
        if len(self.calls) == self._fail_at:
            raise KeyboardInterrupt
        self._calls.append(text)
        if "\0" in text:
            raise ValueError("no NUL")
        return torch.tensor(list(text.encode()), dtype=torch.int64)

    def decode(self, tokens):
        return [bytes(k for k in row if k < END).decode() for row in tokens.tolist()]


def everything(split):
    return split[torch.arange(len(split))].x_0


def documents(seed=0, num=40):
    rng = random.Random(seed)
    words = ["so", "wé", "   ", "\n", "longer-than-most,", "x"]
    return [" ".join(rng.choices(words, k=rng.randrange(1, 30))) for _ in range(num)]


def write_jsonl(path, texts):
    raw = "".join(json.dumps({"text": t, "more": 1}) + "\n" for t in texts).encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return path


def write_texts(folder, texts):
    folder.mkdir()
    for i, t in enumerate(texts):
        (folder / f"{i:02d}.txt").write_bytes(t.encode())
    return folder


def packed_by_hand(texts, length, wrap, group):
    """Straight from the description, all in memory."""
    rows = []
    for begin in range(0, len(texts), group if wrap else len(texts)):
        chosen = texts[begin : begin + group] if wrap else texts
        stream = [token for t in chosen for token in [*t.encode(), END]]
        inner = length - 2 if wrap else length
        for i in range(0, len(stream) - inner + 1, inner):
            row = stream[i : i + inner]
            rows.append([END, *row, END] if wrap else row)
    return torch.tensor(rows)


# -- packing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("length", [3, 8, 50])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("write", [write_jsonl, write_texts])
def test_rows_are_packed_as_described(write, wrap, length, mapped, tmp_path, monkeypatch):
    monkeypatch.setattr(_documents, "PIECE", 32)
    monkeypatch.setattr(_packing, "DOCUMENTS", 7)
    monkeypatch.setattr(_packing, "SHARD_TOKENS", 300)
    monkeypatch.setattr(text, "IN_MEMORY", 0 if mapped else 2**24)
    texts = documents()
    path = write(tmp_path / "d.jsonl", texts)
    data = text.Config(path=str(path), wrap=wrap, held_out=0.3).build(ByteCodec(length))
    wanted = packed_by_hand(texts, length, wrap, 7)
    held_out = int(0.3 * len(wanted))
    assert isinstance(data.train, MappedSplit if mapped else TensorSplit)
    assert torch.equal(everything(data.train), wanted[:-held_out])
    assert torch.equal(everything(data.test), wanted[-held_out:])
    if mapped:
        assert len(data.train.counts) > 3


def test_the_group_that_is_packed_together_is_a_thousand():
    assert _packing.DOCUMENTS == 1000


@pytest.mark.parametrize("stride", [1, 3, 11])
@pytest.mark.parametrize("mapped", [False, True])
def test_windows_never_cross_into_the_held_out_text(stride, mapped, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "IN_MEMORY", 0 if mapped else 2**24)
    path = tmp_path / "t.txt"
    path.write_bytes(bytes(range(32, 127)))
    data = text.Config(path=str(path), stride=stride, held_out=0.25).build(ByteCodec(8))
    train, test = everything(data.train), everything(data.test)
    assert train.tolist() == torch.arange(32, 32 + 72).unfold(0, 8, stride).tolist()
    held_out = torch.tensor([*range(104, 127), END])  # three of twelve rows
    assert test.tolist() == held_out.unfold(0, 8, stride).tolist()


def test_held_out_text_of_its_own(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 20)
    (tmp_path / "b.txt").write_text("b" * 9)
    config = text.Config(path=str(tmp_path / "a.txt"), test_path=str(tmp_path / "b.txt"))
    data = config.build(ByteCodec(5))
    assert everything(data.train).unique().tolist() == [ord("a")]
    assert (len(data.train), everything(data.test).tolist()) == (4, [[98] * 5, [98] * 4 + [END]])


def test_characters_have_no_document_end(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("abc")
    data = text.Config(path=str(tmp_path), held_out=0.5).build(characters.Config(length=3).build())
    assert everything(data.train).tolist() == everything(data.test).tolist() == [[1, 2, 3]]


# -- files -----------------------------------------------------------------------------------------


def test_files_of_every_kind_in_the_order_of_their_names(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_bytes("\ufeffbé\r\nb".encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"aa", mtime=0))
    write_jsonl(tmp_path / "deep" / "c.jsonl", ["c", "", "cc"])
    write_jsonl(tmp_path / "e.jsonl.gz", ["e"])
    (tmp_path / "ignored.md").write_text("no")
    with open(tmp_path / "e.jsonl.gz", "ab") as file:
        file.write(gzip.compress(b'\n  \n{"text": "f"}', mtime=0))
    pieces = list(TextFiles.find(tmp_path, "key").pieces(None))
    assert [(p.text, p.ends) for p in pieces] == [(t, True) for t in ("aa", "bé\nb", "c", "", "cc", "e", "f")]
    assert pieces[-1].line == 4
    assert pieces[-1].done == pieces[-1].total


@pytest.mark.parametrize("size", [4, 5, 16, 64])
@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz"])
def test_pieces_end_where_words_end_and_begin_anywhere_again(size, name, tmp_path, monkeypatch):
    monkeypatch.setattr(_documents, "PIECE", size)
    whole = "\n\n".join(documents(1, 6))
    path = tmp_path / name
    path.write_bytes(gzip.compress(whole.encode()) if name.endswith("gz") else whole.encode())
    pieces = list(TextFiles.find(path, "key").pieces(None))
    assert "".join(p.text for p in pieces) == whole
    assert [p.ends for p in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) > len(whole) // size - 2
    line = 1
    for i, piece in enumerate(pieces):
        assert piece.line == line
        line += piece.text.count("\n")
        if size == 64 and i:  # long enough for every word and the white space around it
            assert piece.text[0] in " \n"
            assert not pieces[i - 1].text[-1].isspace()
        again = list(TextFiles.find(path, "key").pieces(piece.place))
        assert [(p.text, p.place, p.line) for p in again] == [
            (p.text, p.place, p.line) for p in pieces[i + 1 :]
        ]


@pytest.mark.skipif(not (DATA / "gpt2-bpe").is_dir(), reason="needs $DI4C_DATA/gpt2-bpe")
@pytest.mark.parametrize("name", ["tinyshakespeare/input.txt", "wikitext2/valid.txt"])
def test_byte_pairs_of_pieces_are_those_of_the_whole(name, monkeypatch):
    monkeypatch.setattr(_documents, "PIECE", 1000)
    codec = gpt2.Config(length=8).build()
    whole = codec.tokenize((DATA / name).read_text(encoding="utf-8"))
    pieces = [codec.tokenize(p.text) for p in TextFiles.find(DATA / name, "key").pieces(None)]
    assert len(pieces) > 1000
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize(
    ("name", "raw", "match"),
    [
        ("a.txt", b"abc\xff", r"a\.txt: not a UTF-8 text \(byte 3\)"),
        ("a.txt.gz", b"no gzip", r"a\.txt\.gz: Not a gzipped"),
        ("a.txt.gz", gzip.compress(b"abcdef" * 100, mtime=0)[:-12], r"a\.txt\.gz: "),
        ("a.txt.gz", gzip.compress(b"abcdef", mtime=0)[:10] + b"\xff" * 20, r"a\.txt\.gz: Error -3"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": 1}\n', r"a\.jsonl:3: not a JSON object"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: not"),
        ("a.jsonl", b'{"t": "x"}\n', r"a\.jsonl:1: not"),
        ("a.jsonl", b'{"text": "\xff"}\n', r"a\.jsonl:1: not"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: not"),
        ("a.txt", b"ab\ncd\x00", r"a\.txt:2: '\\x00' is not a character of this codec"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "x\\u0000"}\n', r"a\.jsonl:2: '\\x00' is not"),
        ("a.txt", b"abc", r"a\.txt: 1 rows of 4 tokens, too few"),
        ("a.md", None, r"a\.md: No such file"),
        ("folder", None, r"folder: no \.txt, "),
    ],
)
def test_text_errors(name, raw, match, tmp_path):
    path = tmp_path / name
    if raw is not None:
        path.write_bytes(raw)
    elif name == "folder":
        path.mkdir()
    with pytest.raises(DataError, match=match) as caught:
        text.Config(path=str(path)).build(ByteCodec(4))
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_line_is_not_read_whatever_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(_documents, "LONGEST_LINE", 100)
    path = write_jsonl(tmp_path / "a.jsonl", ["x", "y" * 200])
    with pytest.raises(DataError, match=r"a\.jsonl:2: a line of more than"):
        text.Config(path=str(path)).build(ByteCodec(4))


def test_a_character_outside_the_alphabet_is_named_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(_documents, "PIECE", 32)
    path = tmp_path / "t.txt"
    path.write_text("abc abc\n" * 50 + "ab, c\n" + "abc\n" * 50)
    codec = characters.Config(length=4, alphabet="abc \n").build()
    with pytest.raises(DataError, match=r"t\.txt:51: ',' is not a character"):
        text.Config(path=str(path)).build(codec)


def test_text_settings_that_do_not_go_together(tmp_path):
    with pytest.raises(ValueError, match="do not overlap"):
        text.Config(wrap=True, stride=1)
    with pytest.raises(RecipeError, match=r"dataset\.wrap"):
        text.Config(path=str(tmp_path), wrap=True).build(characters.Config(length=4).build())
    for config in (text.Config(), openwebtext.Config()):
        with pytest.raises(RecipeError, match=r"codec\.kind"):
            config.build(pixels.Config(height=2, width=2, levels=2).build())
    with pytest.raises(RecipeError, match="document end"):
        openwebtext.Config().build(characters.Config(length=4).build())


@pytest.mark.skipif(not (DATA / "tinyshakespeare").is_dir(), reason="needs $DI4C_DATA/tinyshakespeare")
def test_shakespeare():
    alphabet = "".join(sorted(set((DATA / "tinyshakespeare/input.txt").read_text())))
    codec = characters.Config(length=64, alphabet=alphabet).build()
    data = text.Config(stride=1).build(codec)
    assert len(data.train) == (15_686 - 1) * 64 + 1  # 17,428 rows, of which 1,742 are held out
    assert codec.decode(data.train[torch.tensor([0])].x_0)[0].startswith("First Citizen:\nBefore we")


def test_shakespeare_is_downloaded_and_checked(tmp_path, monkeypatch):
    monkeypatch.delenv("DI4C_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "source"
    source.write_text("abc" * 10)
    monkeypatch.setattr(text, "SHAKESPEARE", source.as_uri())
    codec = characters.Config(length=3).build()
    with pytest.raises(DataError, match=r"could not be downloaded to .*not the file that was expected"):
        text.Config().build(codec)
    assert not list((tmp_path / "di4c").rglob("*.txt"))
    monkeypatch.setattr(text, "SHA256", _download.hashlib.sha256(source.read_bytes()).hexdigest())
    assert len(text.Config().build(codec).train) == 9
    source.unlink()
    assert len(text.Config().build(codec).train) == 9  # kept
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with pytest.raises(DataError, match="could not be downloaded"):
        text.Config().build(codec)


# -- caches of texts -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "txt.gz"])
@pytest.mark.parametrize("wrap", [False, True])
def test_a_killed_build_of_text_goes_on(kind, wrap, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "IN_MEMORY", 0)
    monkeypatch.setattr(_packing, "SHARD_TOKENS", 200)
    monkeypatch.setattr(_packing, "DOCUMENTS", 7)
    monkeypatch.setattr(_documents, "PIECE", 64)
    folder = tmp_path / "texts"
    folder.mkdir()
    if kind == "jsonl":
        write_jsonl(folder / "d.jsonl", documents())
    else:
        for i, t in enumerate(documents()):
            (folder / f"{i:02d}.txt.gz").write_bytes(gzip.compress(t.encode()))
    config = text.Config(path=str(folder), wrap=wrap)

    def files(root):
        return {p.name: p.read_bytes() for p in (root / ".cache").glob("*/*")}

    monkeypatch.setenv("DI4C_RUNS", str(tmp_path / "whole"))
    unstopped = ByteCodec(11)
    whole = config.build(unstopped)
    for stop in random.Random(0).sample(range(len(unstopped.calls)), 4):
        root = tmp_path / f"stopped-{stop}"
        monkeypatch.setenv("DI4C_RUNS", str(root))
        with pytest.raises(KeyboardInterrupt):
            config.build(ByteCodec(11, fail_at=stop))
        kept = len(list((root / ".cache").glob("*/0*.npy")))
        rest = ByteCodec(11)
        data = config.build(rest)
        assert torch.equal(everything(data.train), everything(whole.train))
        assert files(root) == files(tmp_path / "whole")
        assert rest.calls == unstopped.calls[-len(rest.calls) :]
        assert len(rest.calls) + stop < len(unstopped.calls) + 15 or not kept  # one shard at most is repeated
    lost = next((tmp_path / "whole" / ".cache").glob("*/00002.npy"))
    content = lost.read_bytes()
    lost.unlink()
    monkeypatch.setenv("DI4C_RUNS", str(tmp_path / "whole"))
    one = ByteCodec(11)
    config.build(one)
    assert lost.read_bytes() == content
    assert 0 < len(one.calls) < 20


def test_an_edited_text_is_another_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "IN_MEMORY", 0)
    path = tmp_path / "t.txt"
    path.write_text("abcd" * 10)
    first = text.Config(path=str(path)).build(ByteCodec(4))
    moved = path.rename(path.parent / "runs" / "t.txt")
    again = ByteCodec(4)
    assert text.Config(path=str(moved)).build(again).train.folder == first.train.folder
    assert again.calls == []
    moved.write_text("efgh" * 10)
    data = text.Config(path=str(moved)).build(ByteCodec(4))
    assert data.train[torch.tensor([0])].x_0.tolist() == [list(b"efgh")]
    folders = {
        text.Config(path=str(moved), **settings).build(codec).train.folder
        for settings, codec in (
            ({}, ByteCodec(4)),
            ({}, ByteCodec(5)),
            ({"wrap": True}, ByteCodec(4)),
            ({}, characters.Config(length=4, alphabet="efgh").build()),
            ({}, characters.Config(length=4, alphabet="hgfe").build()),
            ({}, characters.Config(length=4, alphabet="efgh").build()),
        )
    }
    assert len(folders) == 5


def test_a_hostile_state_of_a_text(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "IN_MEMORY", 0)
    monkeypatch.setattr(_packing, "SHARD_TOKENS", 8)
    path = write_jsonl(tmp_path / "d.jsonl", ["abcd"] * 10)
    build = text.Config(path=str(path)).build
    folder = build(ByteCodec(4)).train.folder
    header = json.loads((folder / "header.json").read_text())
    good = header["shards"][1]["state"]
    (folder / "00002.npy").unlink()
    bad = (
        None,
        good | {"place": 7},
        good | {"place": ["/etc/passwd", 0, 1]},
        good | {"place": [0, -1, 1]},
        good | {"waiting": [257]},
        good | {"waiting": [-1]},
        good | {"more": 1},
        good | {"place": [0, 10**30, 1]},
        good | {"place": [-1, 0, 1]},
        good | {"place": [9, 0, 1]},
    )
    for complete in (True, False):
        shards = header["shards"] if complete else header["shards"][:2]
        for state in bad[: None if complete else -1]:
            shards[1]["state"] = state
            (folder / "header.json").write_text(json.dumps(header | {"shards": shards, "complete": complete}))
            with pytest.raises(DataError, match=r"damaged|source has changed"):
                build(ByteCodec(4))


# -- openwebtext -----------------------------------------------------------------------------------


class Pages:
    """Stands for a `datasets.Dataset`: sliced into a dict of lists."""

    column_names = ("text",)

    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, rows):
        assert len(self.texts[rows]) <= 1000
        return {"text": self.texts[rows]}


@pytest.fixture
def hub(monkeypatch):
    """A module `datasets` with one corpus."""
    texts, asked = documents(2, 60), []

    def load_dataset(name, split):
        asked.append((name, split))
        return Pages(texts)

    module = SimpleNamespace(load_dataset=load_dataset, texts=texts, asked=asked)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_openwebtext_holds_out_the_last_pages_and_packs_as_text(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(_packing, "DOCUMENTS", 7)
    monkeypatch.setattr(openwebtext, "DOCUMENTS", 7)
    assert openwebtext.Config().held_out == 100_000
    config, told = openwebtext.Config(held_out=10), []
    with progress.reporting(lambda *line: told.append(line)):
        data = config.build(ByteCodec(16))
    assert torch.equal(everything(data.train), packed_by_hand(hub.texts[:50], 16, True, 7))
    assert torch.equal(everything(data.test), packed_by_hand(hub.texts[50:], 16, True, 7))
    assert hub.asked == [("Skylion007/openwebtext", "train")] * 2
    assert (50, 50, "openwebtext-train: tokenising") in told
    monkeypatch.setitem(sys.modules, "datasets", None)  # a finished cache needs no package and no network
    assert torch.equal(everything(config.build(ByteCodec(16)).train), everything(data.train))
    path = write_jsonl(tmp_path / "same.jsonl", hub.texts[:50])
    same = text.Config(path=str(path), wrap=True, test_path=str(path)).build(ByteCodec(16))
    assert torch.equal(everything(same.train), everything(data.train))


def test_openwebtext_goes_on_after_a_kill(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(_packing, "SHARD_TOKENS", 500)
    config = openwebtext.Config(held_out=10)
    whole = everything(config.build(ByteCodec(16)).train)
    monkeypatch.setenv("DI4C_RUNS", str(tmp_path / "again"))
    with pytest.raises(KeyboardInterrupt):
        config.build(ByteCodec(16, fail_at=30))
    rest = ByteCodec(16)
    assert torch.equal(everything(config.build(rest).train), whole)
    assert 30 <= len(rest.calls) < 45


def test_openwebtext_errors(hub, monkeypatch):
    codec = ByteCodec(16)
    with pytest.raises(DataError, match="60 pages, of which 60"):
        openwebtext.Config(held_out=60).build(codec)
    hub.texts[3] = "a\0b"
    with pytest.raises(DataError, match=r"Skylion007/openwebtext, page 3:1: '\\x00'"):
        openwebtext.Config(held_out=10).build(codec)
    for problem in (ConnectionError("offline\nlong story"), RuntimeError("scripts"), ValueError("")):

        def load_dataset(name, split, problem=problem):
            raise problem

        monkeypatch.setattr(hub, "load_dataset", load_dataset)
        with pytest.raises(DataError) as caught:
            openwebtext.Config(held_out=10).build(codec)
        cause = str(problem).partition("\n")[0] or "ValueError"
        assert caught.value.message == f"Skylion007/openwebtext: cannot be loaded: {cause}"
        assert 'dataset.kind = "text"' in caught.value.hint
    monkeypatch.setattr(hub, "load_dataset", lambda name, split: SimpleNamespace(column_names=["html"]))
    with pytest.raises(DataError, match="have no `text`"):
        openwebtext.Config(held_out=10).build(codec)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="`datasets` is missing") as caught:
        openwebtext.Config().build(codec)
    assert "pip install 'di4c[owt]'" in caught.value.hint


def test_the_kinds_are_found_without_their_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for kind in ("text", "openwebtext", "imagenet", "cifar10"):
        assert config_class("datasets", kind)().kind == kind
