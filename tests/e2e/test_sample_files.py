"""`di4c sample`: what it writes, that it writes the same again, and what a SOURCE can be."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from program import TINY, Program

from di4c_cli.core.checkpoint_header import header_text

FEW = ["--steps", 2, "--num", 5, "--seed", 3]


def contents(program: Program, folder: str) -> dict[str, bytes]:
    """The files of a folder below the working directory, by name."""
    return {path.name: path.read_bytes() for path in (program.home / folder).iterdir()}


def sampled(program: Program, *args: object) -> dict:
    return program.ok("sample", *args, "--json").json


# -- repeatable ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "format"),
    [
        *(("digits/student-1", name) for name in ("png", "npz", "jsonl")),
        *(("toy", name) for name in ("txt", "npz", "jsonl")),
    ],
)
def test_the_same_arguments_give_the_same_bytes(beside, source, format):
    for out in ("a", "b"):
        beside.ok("sample", source, *FEW, "--format", format, "--out", out)
    beside.ok("sample", source, *FEW[:-1], 4, "--format", format, "--out", "c")
    assert contents(beside, "a") == contents(beside, "b")
    assert contents(beside, "a") != contents(beside, "c")


def test_a_cold_start_gives_the_same_bytes(beside):
    beside.ok("sample", "digits/student-1", *FEW, "--out", "warm")
    outcome = beside.cold("sample", "digits/student-1", *FEW, "--out", "cold")
    assert outcome.code == 0, outcome.err
    assert contents(beside, "cold") == contents(beside, "warm")


def test_a_batch_size_belongs_to_what_is_repeated(beside):
    """Files may depend on it, but the number of samples does not."""
    for out, size in (("a", 2), ("b", 2), ("c", 5)):
        beside.ok("sample", "toy", *FEW, "--batch-size", size, "--out", out)
    assert contents(beside, "a") == contents(beside, "b")
    lines = [contents(beside, out)["samples.txt"].splitlines() for out in "ac"]
    assert [len(part) for part in lines] == [5, 5]


def test_text_with_the_words_that_every_python_has(program):
    """The data set is not read for sampling, so a tiny teacher of words is all it takes."""
    tiny = ["network.width=16", "teacher.train.steps=20", "teacher.train.batch_size=16", "preview.every=0"]
    program.ok("train-teacher", "words", *tiny)
    for out in ("a.txt", "b.txt"):
        program.ok("sample", "words", *FEW, "--out", out)
    program.ok("sample", "words", *FEW, "--out", "a.jsonl")
    text = (program.home / "a.txt").read_text(encoding="utf-8")
    assert text == (program.home / "b.txt").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (program.home / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == text.splitlines()
    assert all(row.keys() == {"index", "text", "tokens", "label"} for row in rows)
    assert all(len(row["tokens"]) == 10 for row in rows)


# -- formats -------------------------------------------------------------------------------------


def test_formats_of_images_tell_the_same_samples(beside):
    told = {name: sampled(beside, "digits/student-1", *FEW, "--format", name, "--out", name)
            for name in ("png", "npz", "jsonl")}  # fmt: skip
    images = [f"{number:05}.png" for number in range(5)]
    assert [path.rpartition("/")[2] for path in told["png"]["files"]] == [*images, "grid.png"]
    assert sorted(contents(beside, "png")) == [*images, "grid.png"]
    with np.load(beside.home / "npz/samples.npz") as arrays:
        assert set(arrays.files) == {"samples", "tokens"}
        samples, tokens = arrays["samples"], arrays["tokens"]
    assert samples.shape == (5, 1, 8, 8)
    assert (samples.min(), samples.max()) == (0, 1)
    assert tokens.shape == (5, 64)
    assert set(np.unique(tokens)) <= {0, 1, 2, 3}
    assert np.array_equal(samples.reshape(5, 64), tokens.astype(np.float32) / 3)
    for name, sample in zip(images, samples, strict=True):
        with Image.open(beside.home / "png" / name) as image:
            assert image.size == (8, 8)
            assert np.abs(np.asarray(image) / 255 - sample[0]).max() < 0.01
    rows = [json.loads(line) for line in contents(beside, "jsonl")["samples.jsonl"].splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["tokens"] for row in rows] == tokens.tolist()
    assert all(row["label"] is None for row in rows)


def test_formats_of_states_tell_the_same_samples(beside):
    for name in ("txt", "npz", "jsonl"):
        beside.ok("sample", "toy", *FEW, "--out", f"x.{name}")  # the format by the file's name
    lines = (beside.home / "x.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    assert all(len(line) == 5 and set(line) <= set("012") for line in lines)
    with np.load(beside.home / "x.npz", allow_pickle=False) as arrays:
        assert arrays["samples"].tolist() == lines
        assert ["".join(map(str, row)) for row in arrays["tokens"]] == lines
    rows = [json.loads(line) for line in (beside.home / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == lines


def test_a_grid_beside_one_file(beside):
    told = sampled(beside, "digits/student-1", *FEW, "--format", "npz", "--grid", "--out", "with")
    assert sorted(contents(beside, "with")) == ["grid.png", "samples.npz"]
    assert len(told["files"]) == 2


# -- what is told --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options", "model", "steps"),
    [
        ("digits/student-1", ["--steps", 3], "student", 3),
        ("digits/student-1", ["--steps", 3, "--teacher-steps", 2], "hybrid", 3),
        ("digits/teacher-1", ["--steps", 3], "teacher", 3),
        ("digits/student-1", [], "student", 4),
        ("digits/student-1", ["sample.steps=6"], "student", 6),
    ],
)
def test_the_json_document(beside, source, options, model, steps):
    told = sampled(beside, source, *options, "--num", 2, "--seed", 5)
    assert told.pop("seconds") >= 0
    source = str(beside.runs / source / "final")
    out = f"samples/digits-{model}-{steps}"
    files = [f"{out}/00000.png", f"{out}/00001.png", f"{out}/grid.png"]
    expected = {"source": source, "model": model, "steps": steps, "nfe": steps, "num": 2, "seed": 5}
    assert told == expected | {"files": files}


def test_the_default_folder_holds_one_drawing_alone(beside):
    """But a folder that somebody chose is theirs, and so are files of other names."""
    names = {}
    for options in ([], ["--out", "chosen"]):
        sampled(beside, "digits/student-1", "--steps", 5, "--num", 3, "--seed", 0, *options)
        folder = beside.home / (options[1] if options else "samples/digits-student-5")
        (folder / "00002-mine.png").touch()
        sampled(beside, "digits/student-1", "--steps", 5, "--num", 2, "--seed", 7, *options)
        names[folder.name] = sorted(path.name for path in folder.iterdir())
    kept = ["00000.png", "00001.png", "00002-mine.png", "grid.png"]
    assert names == {"digits-student-5": kept, "chosen": sorted([*kept, "00002.png"])}


def test_people_get_paths_on_stdout_and_the_story_on_stderr(beside):
    outcome = beside.ok("sample", "toy", *FEW, "--out", "x.txt")
    assert outcome.out == "x.txt\n"
    assert "5 samples of the teacher" in outcome.err
    assert beside.ok("sample", "toy", *FEW, "--out", "x.txt", "--quiet").err == ""


def test_hybrid_weights_and_precision_are_not_ignored(beside):
    """Each option changes what is drawn: the student's and the teacher's averages were still moving."""
    many = ["digits/student-1", "--steps", 4, "--num", 64, "--format", "jsonl"]
    options = {
        "plain": [],
        "hybrid": ["--teacher-steps", 3],
        "raw": ["--weights", "raw"],
        "tau": ["--sampler", "tau_leaping"],
        "bfloat16": ["--dtype", "bfloat16"],
        "argmax": ["sampler.final=argmax"],
    }
    drawn = {}
    for name, option in options.items():
        beside.ok("sample", *many, *option, "--out", f"{name}.jsonl")
        drawn[name] = (beside.home / f"{name}.jsonl").read_bytes()
    assert len(set(drawn.values())) == len(options)
    teacher = ["digits/teacher-1", *many[1:]]
    for weights in ("ema", "raw"):
        beside.ok("sample", *teacher, "--weights", weights, "--out", f"teacher-{weights}.jsonl")
    averaged, last = ((beside.home / f"teacher-{weights}.jsonl").read_bytes() for weights in ("ema", "raw"))
    assert averaged != last


# -- sources -------------------------------------------------------------------------------------


def test_the_shipped_teacher_needs_no_runs(program):
    told = sampled(program, "digits", "--steps", 4, "--num", 8)
    assert told["model"] == "teacher"
    assert len(told["files"]) == 9
    with Image.open(program.home / "samples/digits-teacher-4/grid.png") as image:
        assert len(np.unique(np.asarray(image))) > 2
    assert not program.runs.exists()


def test_every_way_to_name_a_source(beside):
    run = beside.runs / "digits/student-1"
    sources = ["digits", "latest", "digits/student-1", run, run / "final"]
    assert {sampled(beside, source, *FEW)["source"] for source in sources} == {str(run / "final")}


def test_the_newest_finished_student_speaks_for_a_recipe(program):
    """Not an unfinished one, which has no `final`, and not a teacher, however new."""
    quick = [
        "preview.every=0",
        "metrics=[]",
        "network.width=16",
        "student.num_latents=4",
        "train.batch_size=8",
    ]
    assert sampled(program, "toy", *FEW)["model"] == "teacher"
    program.ok("distill", "toy", *quick, "train.steps=5")
    program.ok("distill", "toy", *quick, "train.steps=5")
    program.ok("distill", "toy", *quick, "train.steps=5", "--name", "unfinished")
    shutil.rmtree(program.runs / "toy/unfinished/final")
    assert sampled(program, "toy", *FEW)["source"] == str(program.runs / "toy/student-2/final")


def test_a_student_can_be_sampled_where_its_teacher_is_gone(digits, tmp_path):
    """A checkpoint folder carried elsewhere: only what needs the teacher misses it."""
    program = Program(tmp_path)
    copy = shutil.copytree(digits.runs / "digits/student-1/final", tmp_path / "carried")
    header = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(header_text(header | {"teacher": "/gone"}), encoding="utf-8")
    assert sampled(program, copy, *FEW)["model"] == "student"
    outcome = program("sample", copy, *FEW, "--teacher-steps", 1)
    assert outcome.code == 2
    assert len(outcome.complaint) == 1


def test_a_run_is_sampled_while_it_trains(program):
    """From its newest checkpoint, where there is no `final` yet."""
    program.ok("distill", "toy", *TINY, "network.depth=2", "metrics=[]", "train.save_every=10")
    run = program.runs / "toy/student-1"
    shutil.rmtree(run / "final")
    assert sampled(program, "latest", *FEW)["source"] == str(run / "step-40")
