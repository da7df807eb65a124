"""Killed at any moment, within any write, a run ends with the same bits as one that was left alone."""

import os
import time

import pytest
from crashing import WITHIN_A_WRITE, Crashing, assert_as_if_nothing_happened
from program import TINY_TEACHER

CADENCE = ["{}.steps=40", "{}.log_every=5", "{}.save_every=5", "{}.batch_size=16"]
COMMANDS = {
    "distill digits": ["train", "metrics=[]", "preview.every=15", "preview.num=4", "preview.steps=[1]"],
    "train-teacher mnist": ["teacher.train", "preview.every=15", "preview.num=4", "preview.steps=[1]"],
    "train-teacher digits": ["teacher.train", *(s for s in TINY_TEACHER if "train" not in s)],
}
OPERATIONS = 300  # on files, about, that are counted in such a run


@pytest.fixture
def crashing(program):
    def crashing(line: str) -> Crashing:
        command, recipe = line.split()
        section, *settings = COMMANDS[line]
        settings += [setting.format(section) for setting in CADENCE]
        environment = {name: os.environ[name] for name in ("DI4C_DATA",) if name in os.environ}
        return Crashing(program, [command, recipe, *settings], recipe, environment)

    return crashing


@pytest.mark.parametrize(
    ("line", "kills"),
    [
        ("train-teacher digits", 4),
        pytest.param("distill digits", 50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
        pytest.param("train-teacher mnist", 50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_killed_at_any_moment(crashing, program, line, kills):
    program.ok("recipes")  # imports what all of them need
    made, began = crashing(line), time.monotonic()
    whole = made.whole()
    seconds, seed = time.monotonic() - began, int.from_bytes(os.urandom(4), "big")
    print(f"{line}: {kills} kills, seed {seed}; {seconds:.1f} s when it is left alone")
    for run in made.killed(kills, seconds, OPERATIONS, seed):
        assert_as_if_nothing_happened(run, whole)


@pytest.mark.parametrize("before", [pytest.param(True, marks=pytest.mark.slow), False])
def test_killed_within_every_write_of_a_save(crashing, before):
    """One run, killed at each operation on files that follows, one after the other."""
    made = crashing("train-teacher digits")
    whole = made.whole()
    for operation in range(1, 60, 7):
        code, run = made.attempt("killed", WITHIN_A_WRITE.format(operation=operation, before=before))
        if code == 0:
            break
    code, run = made.attempt("killed", "") if code else (code, run)
    assert_as_if_nothing_happened(run, whole)
