"""`di4c bench --quality`: what a student's runs replace, and what that saves on the clock."""

import json
import math
import os

import pytest
from program import TINY, Program

from di4c_cli import recipe_file, shipped
from di4c_cli.bench.savings import Run, named, paired, savings
from di4c_cli.errors import CheckpointError, Di4CError, UsageError
from di4c_cli.figures import Figure, Group, Setting

PLAIN = Setting()


def groups(setting=PLAIN, figure="fd", **models):
    """Means of a figure by model and steps."""
    return [
        Group(model, steps, steps, setting, 1, {figure: Figure(value, 0.0)}, 0.0, False)
        for model, values in models.items()
        for steps, value in values.items()
    ]


def replaced(found):
    """Student's steps, teacher's steps, and whether the teacher is as good there."""
    return [(pair.student.steps, pair.teacher.steps, pair.reached) for pair in found]


TEACHER = {8: 1.0, 1: 9.0, 2: 5.0, 4: 3.0}  # an evaluation has its steps in any order


class TestPairs:
    @pytest.mark.parametrize(
        ("value", "steps", "reached"),
        [
            (4.0, 4, True),
            (3.0, 4, True),  # a tie is as good
            (math.nextafter(3.0, 0.0), 8, True),
            (10.0, 1, True),  # a student worse than a single step of its teacher
            (0.5, 8, False),  # never within what was evaluated
        ],
    )
    def test_the_fewest_steps_that_are_as_good(self, value, steps, reached):
        found = paired(groups(teacher=TEACHER, student={2: value}), "fd", "lower")
        assert replaced(found) == [(2, steps, reached)]
        assert (found[0].value, found[0].teacher_value) == (value, TEACHER[steps])
        assert (found[0].equal.steps, found[0].double.steps) == (2, 4)

    def test_higher_may_be_better(self):
        teacher = {1: 0.2, 2: 0.4, 4: 0.6}
        found = paired(groups(teacher=teacher, student={1: 0.4, 2: 0.41, 4: 0.7}), "fd", "higher")
        assert replaced(found) == [(1, 2, True), (2, 4, True), (4, 4, False)]

    def test_a_teacher_need_not_get_better_with_steps(self):
        found = paired(groups(teacher={1: 9.0, 2: 3.0, 4: 5.0}, student={1: 4.0}), "fd", "lower")
        assert replaced(found) == [(1, 2, True)]

    def test_only_equal_settings_compare(self):
        guided, bare = Setting(guidance=2.0), Setting(guidance=0.0)
        rows = groups(bare, teacher={1: 1.0}, student={1: 2.0}) + groups(guided, teacher={4: 3.0, 8: 2.0})
        assert len(paired(rows, "fd", "lower")) == 1
        found = paired(rows + groups(guided, student={2: 2.5}), "fd", "lower")
        assert replaced(found) == [(1, 1, True), (2, 8, True)]
        names = named(found).values()
        assert {"student, K = 2, w = 2", "teacher, K = 8, w = 2", "teacher, K = 2, w = 0"} <= set(names)

    def test_what_is_no_number_replaces_nothing(self):
        rows = groups(teacher={1: math.nan, 2: 5.0}, student={1: 6.0, 2: math.inf}, hybrid={4: 1.0})
        assert replaced(paired(rows, "fd", "lower")) == [(1, 2, True)]
        assert paired(rows, "recall", "higher") == []
        assert paired(groups(student={1: 1.0}), "fd", "lower") == []

    def test_a_run_is_timed_once(self):
        found = paired(groups(teacher=TEACHER, student={1: 4.0, 2: 2.9}), "fd", "lower")
        assert list(named(found)) == [
            *(Run("student", steps, PLAIN) for steps in (1, 2)),
            *(Run("teacher", steps, PLAIN) for steps in (1, 2, 4, 8)),
        ]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A home with a toy's student of another width than the recipe's, and its evaluation."""
    program = Program(tmp_path_factory.mktemp("toy"))
    program.ok("distill", "toy", *TINY, "network.depth=2", "eval.steps=[1,2,4]")
    return program


@pytest.fixture
def beside(toy, tmp_path):
    """The program in an empty folder, with the run of `toy`."""
    return Program(tmp_path, toy.runs)


QUICK = ("--quality", "tv", "--repeats", "2")
KEYS = {
    *("figure", "student_steps", "student_value", "teacher_steps", "teacher_value", "reached", "batch_size"),
    *("student_ms", "teacher_ms", "saving", "saving_at_2k", "overhead"),
}


def test_the_document(beside):
    found = beside.ok("bench", "toy", *QUICK, "--batch-sizes", "2,3", "--out", "b.json", "--json").json
    results = json.loads((beside.runs / "toy/student-1/eval/results.json").read_text())
    known = {(row["model"], row["steps"]): row["metrics"]["tv"] for row in results["rows"]}
    medians = {(row["what"], row["batch_size"]): row["median_ms"] for row in found["rows"]}
    assert [(row["student_steps"], row["batch_size"]) for row in found["savings"]] == [
        (steps, size) for steps in (1, 2, 4) for size in (2, 3)
    ]
    for row in found["savings"]:
        assert row.keys() >= KEYS
        steps, size, teacher = row["student_steps"], row["batch_size"], row["teacher_steps"]
        good = [k for k in (1, 2, 4) if known["teacher", k] <= known["student", steps]]
        assert (teacher, row["reached"]) == ((good[0], True) if good else (4, False))
        assert row["student_value"] == known["student", steps]
        assert row["teacher_value"] == known["teacher", teacher]
        assert row["student_ms"] == medians[f"student, K = {steps}", size]
        assert row["teacher_ms"] == medians[f"teacher, K = {teacher}", size]
        assert row["saving"] == row["teacher_ms"] / row["student_ms"]
        assert row["saving_at_2k"] == medians[f"teacher, K = {2 * steps}", size] / row["student_ms"]
        assert row["overhead"] == row["student_ms"] / medians[f"teacher, K = {steps}", size] - 1
    # the networks of the run, not of the recipe, which are 8 times as wide and twice as deep
    weights = (beside.runs / "toy/student-1/final/model.safetensors").stat().st_size / 4
    (row,) = [row for row in found["rows"] if (row["what"], row["batch_size"]) == ("student, K = 1", 2)]
    assert 0 < 1e9 * row["gflop"] < 2 * 2 * 2 * weights
    assert {"device", "threads", "torch", "dtype", "skipped"} <= found.keys()
    assert (found["fits"], found["ratios"], found["roofline"]) == ([], [], None)
    assert json.loads((beside.home / "b.json").read_text()) == found


def test_the_table_of_an_evaluation_from_elsewhere(beside):
    """Its model is not here: the recipe stands for it, as it is given."""
    results = json.loads((beside.runs / "toy/student-1/eval/results.json").read_text())
    (beside.home / "r.json").write_text(json.dumps(results | {"source": "elsewhere/toy/student-1/final"}))
    outcome = beside.ok("bench", "toy", *QUICK, "--evaluation", "r.json", "--batch-sizes", "2", *TINY[:2])
    assert "elsewhere/toy/student-1/final: not here, so the recipe is timed as it is given" in outcome.err
    for text in ("student, K = 4", "teacher's K", "saving", "at 2K", "overhead", "by r.json"):
        assert text in outcome.out


def refused(program, *args, **env):
    """The lines of a refusal."""
    outcome = program(*args, **env)
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    return outcome.complaint


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["digits", "--quality", "fd"], ["digits: no evaluation of a student yet", "di4c eval digits"]),
        (["toy", "--quality", "tvv"], ["--quality tvv: no figure of ", "it has tv"]),
        (["toy", *QUICK, "--steps", "2"], ["--quality tv: --steps and --fit", "leave them out"]),
        (
            ["toy", *QUICK, "--evaluation", "nothere"],
            ["nothere: No such file", "results.json of `di4c eval`"],
        ),
        (["toy", *QUICK, "--evaluation", "."], [".: Is a directory"]),
        (["toy", "--evaluation", "r.json"], ["--evaluation r.json: which figure", "add --quality FIGURE"]),
    ],
)
def test_wrong_input_is_one_line(beside, arguments, told):
    (complaint,) = refused(beside, "bench", *arguments, "--quiet")
    for part in told:
        assert part in complaint


def test_a_student_without_an_evaluation(beside, toy, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    os.makedirs(runs / "toy/student-1")
    for name in ("final", "status.json"):
        (runs / "toy/student-1" / name).symlink_to(toy.runs / "toy/student-1" / name)
    (complaint,) = refused(beside, "bench", "toy", *QUICK, DI4C_RUNS=str(runs))
    assert "toy: no evaluation of a student yet (di4c eval toy; or --evaluation FILE)" in complaint


ROW = {"model": "student", "steps": 1, "nfe": 1, "metrics": {"tv": 0.5}, "seconds_per_sample": 0.1}
TEACHERS = ROW | {"model": "teacher"}
TOY = recipe_file.load(shipped.find_recipe("toy"), TINY[:2])
WHOLE = {"source": "toy", "directions": {"tv": "lower"}, "rows": [ROW, TEACHERS]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not the results.json of an evaluation: Invalid JSON"),
        (b"\xff\x00", "not the results.json of an evaluation: Invalid JSON"),
        (b"[" * 100_000, "not the results.json of an evaluation: Invalid JSON"),
        (json.dumps(WHOLE).encode()[:-9], "not the results.json of an evaluation: Invalid JSON"),
        ([], "not the results.json of an evaluation: "),
        (WHOLE | {"rows": []}, "not the results.json of an evaluation: rows: "),
        (WHOLE | {"rows": [ROW | {"steps": "1"}]}, "rows.0.steps: "),
        (WHOLE | {"rows": [ROW | {"steps": 10**9}]}, "rows.0.steps: "),
        (WHOLE | {"rows": [ROW | {"final": "draw"}]}, "rows.0.final: "),
        (WHOLE | {"rows": [ROW | {"metrics": {"tv": "x"}}]}, "rows.0.metrics.tv: "),
        (WHOLE | {"rows": [ROW]}, "tv is not known of both a student and its teacher"),
        (WHOLE | {"rows": [ROW, TEACHERS | {"metrics": {"tv": None}}]}, "tv is not known of both"),
        (WHOLE | {"directions": {"tv": "report"}}, "--quality tv: no figure of "),
        (WHOLE | {"source": "x" * 5000, "rows": [ROW]}, "tv is not known of both"),
        (WHOLE | {"rows": [{**row, "guidance": 1.0} for row in (ROW, TEACHERS)]}, "sampler: guidance needs"),
    ],
)
def test_foreign_and_damaged_files(tmp_path, content, told):
    file = tmp_path / "r.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(Di4CError) as problem:
        savings(TOY, "tv", evaluation=file, batch_sizes=[2], repeats=1, device="cpu")
    assert problem.value.exit_code == 2
    assert told in str(problem.value)
    assert "\n" not in str(problem.value)


def gflop(recipe, *overrides, tmp_path, guidance=(None,)):
    """Work of each run, for an evaluation from elsewhere at these guidance weights."""
    file = tmp_path / "r.json"
    rows = [
        row | ({} if w is None else {"guidance": w}) | {"steps": k}
        for w in guidance
        for k in (1, 2)
        for row in (ROW, TEACHERS)
    ]
    file.write_text(json.dumps(WHOLE | {"source": "elsewhere", "rows": rows}))
    loaded = recipe_file.load(shipped.find_recipe(recipe), overrides)
    found = savings(loaded, "tv", evaluation=file, batch_sizes=[2], repeats=1, device="cpu")
    return {row["what"]: row["gflop"] for row in found["rows"]}


@pytest.mark.slow
def test_guided_runs_take_both_calls(tmp_path):
    small = ("network.width=16", "network.depth=1", "network.heads=2")
    work = gflop("mnist_tokens", *small, tmp_path=tmp_path, guidance=[0.0, 2.0])
    for model in ("teacher", "student"):
        assert work[f"{model}, K = 1, w = 2"] == 2 * work[f"{model}, K = 1, w = 0"] > 0


def test_calls_that_a_student_hands_over_are_the_teacher_s(tmp_path):
    """The toy's teacher is exact: it has no network."""
    alone = gflop("toy", *TINY[:2], tmp_path=tmp_path)
    both = gflop("toy", *TINY[:2], "sampler.by_teacher=[{steps=2,calls=[1]}]", tmp_path=tmp_path)
    assert both["student, K = 1"] == alone["student, K = 1"] > alone["teacher, K = 1"]
    assert both["student, K = 2"] < alone["student, K = 2"]


@pytest.mark.parametrize(("place", "told"), [("nothere", "No such file"), (".", "Is a directory")])
def test_a_file_that_is_none(tmp_path, place, told):
    with pytest.raises(CheckpointError, match=told):
        savings(TOY, "tv", evaluation=tmp_path / place)


def test_a_damaged_file_is_one_line(beside):
    file = beside.home / "r.json"
    file.write_text(json.dumps(WHOLE)[:-9])
    (complaint,) = refused(beside, "bench", "toy", *QUICK, "--evaluation", "r.json", "--quiet")
    assert complaint.startswith("r.json: not the results.json of an evaluation: Invalid JSON")


def test_an_evaluation_of_another_recipe(toy):
    file = toy.runs / "toy/student-1/eval/results.json"
    digits = recipe_file.load(shipped.find_recipe("digits"))
    with pytest.raises(UsageError, match="evaluates toy, not digits"):
        savings(digits, "tv", evaluation=file)
