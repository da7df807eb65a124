"""Files that are not whole, or not what they are said to be: each refused with one line, nothing written."""

import os
import zipfile

import pytest
import torch
from released import AVERAGED, KINDS, averages_of, release, weights_of


def last(content):
    """The table of tensors, and the name of the last one of the network."""
    state = weights_of(content)
    return state, [name for name, value in state.items() if torch.is_tensor(value) and "loss" not in name][-1]


def without(content):
    state, name = last(content)
    del state[name]
    del averages_of(content)[-1]


def with_more(content):
    weights_of(content)["extra.weight"] = torch.zeros(2)
    averages_of(content).append(torch.zeros(2))


def replaced(content, make):
    state, name = last(content)
    state[name] = make(state[name])
    averages_of(content)[-1] = make(averages_of(content)[-1])


def misshapen(content):
    replaced(content, lambda value: torch.cat([value, value]))


def not_a_number(content):
    replaced(content, lambda value: torch.full_like(value, float("nan")))


def infinite(content):
    replaced(content, lambda value: value / 0)


def whole_numbers(content):
    replaced(content, lambda value: value.int())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without, "missing: "),
        (with_more, "surplus: extra.weight"),
        (misshapen, "of another shape: "),
        (not_a_number, "not finite"),
        (infinite, "not finite"),
        (whole_numbers, "torch.int32, not floating-point"),
    ],
)
def test_one_wrong_tensor(kind, change, says, refused, tmp_path):
    made = release(kind, tmp_path / "in", change)
    said = refused(made.path, kind)
    assert said.startswith(str(made.file))
    assert says in said


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_needed(kind, refused, tmp_path):
    """Also those that sizes are read from: whichever is missing is named, or the sizes do not fit."""
    names = list(release(kind, tmp_path / "whole").network)
    for number in range(0, len(names), max(1, len(names) // 6)):

        def drop(content, number=number):
            state = weights_of(content)
            name = [name for name, value in state.items() if torch.is_tensor(value)][number]
            del state[name]

        made = release(kind, tmp_path / f"in{number}", drop)
        said = refused(made.path, kind, weights="raw")
        assert "missing: " in said or "of another shape" in said or "levels" in said


@pytest.mark.parametrize("kind", AVERAGED)
@pytest.mark.parametrize("by", [-1, 1])
def test_averages_of_another_number(kind, by, refused, tmp_path):
    def change(content):
        averages = averages_of(content)
        averages.append(averages[0]) if by > 0 else averages.pop()

    made = release(kind, tmp_path / "in", change)
    said = refused(made.path, kind, weights="ema")
    assert f"{len(made.parameters) + by} averaged weights for {len(made.parameters)} parameters" in said


@pytest.mark.parametrize("kind", AVERAGED)
def test_averages_in_another_order(kind, refused, tmp_path):
    def change(content):
        averages = averages_of(content)
        averages.reverse()

    made = release(kind, tmp_path / "in", change)
    said = refused(made.path, kind, weights="ema")
    assert "the averaged" in said
    assert "of another shape" in said


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_kind(kind, refused, tmp_path):
    made = release(kind, tmp_path / "in")
    same = {kind} | ({"mdlm", "sdtt"} if kind in ("mdlm", "sdtt") else set())
    for other in set(KINDS) - same:
        said = refused(made.path, other, weights="raw")
        assert "holds no table" in said or "--kind" in said


@pytest.mark.parametrize("kind", ["mdlm", "maskgit", "tauldr"])
def test_teacher_and_student_are_told_apart(kind, refused, tmp_path):
    student = {"mdlm": "di4c-sdtt", "maskgit": "di4c-maskgit", "tauldr": "di4c-tauldr"}[kind]
    made = release(student, tmp_path / "in")
    assert f"give --kind {student}" in refused(made.path, kind)


@pytest.mark.parametrize("kind", ["mdlm", "maskgit", "tauldr", "vqgan", "di4c-sdtt"])
@pytest.mark.parametrize("keep", [0, 5, 300, 0.5, 0.99])
def test_cut_short(kind, keep, refused, tmp_path):
    made = release(kind, tmp_path / "in")
    content = made.file.read_bytes()
    made.file.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    assert str(made.file) in refused(made.path, kind)


def test_one_bit_is_enough(refused, tmp_path):
    made = release("maskgit", tmp_path / "in")
    content = bytearray(made.file.read_bytes())
    with zipfile.ZipFile(made.file) as file:
        largest = max(file.infolist(), key=lambda info: info.file_size)
    content[largest.header_offset + 200] ^= 1
    made.file.write_bytes(content)
    assert "checksum" in refused(made.path, "maskgit")


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x89PNG\r\n\x1a\n" + bytes(400)])
def test_no_weights_at_all(content, refused, tmp_path):
    path = tmp_path / "in.pth"
    path.write_bytes(content)
    assert f"{path}: neither a torch file nor safetensors" in refused(path, "maskgit")


def test_no_file(refused, tmp_path):
    assert "no such file" in refused(tmp_path / "none.pth", "maskgit")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no model.safetensors" in refused(empty, "mdlm")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(refused, tmp_path):
    made = release("maskgit", tmp_path / "in")
    made.file.chmod(0)
    assert "Permission denied" in refused(made.path, "maskgit")
