"""A home for each test, and one tiny teacher and student of the digits for all of them."""

import pytest
from exact import RUNS
from program import TINY, TINY_TEACHER, Program

from di4c_cli.runs import RunDirectory


@pytest.fixture
def program(tmp_path):
    """The program in an empty folder."""
    return Program(tmp_path)


@pytest.fixture(scope="session")
def digits(tmp_path_factory, share_classifiers):
    """A home with `digits/teacher-1` and `digits/student-1`, both finished within seconds."""
    program = Program(tmp_path_factory.mktemp("digits"))
    share_classifiers(program.runs)
    program.ok("train-teacher", "digits", *TINY_TEACHER)
    quick = ["eval.steps=[1]", "eval.models=['teacher']", "metrics.5.num=20", "metrics.5.num_latents=4"]
    program.ok("distill", "digits", *TINY, *quick)
    return program


@pytest.fixture
def beside(digits, tmp_path):
    """The program in an empty folder, with the runs of `digits`."""
    return Program(tmp_path, digits.runs)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """The run that a stopped one is to equal, by command; each made once."""
    made: dict[str, RunDirectory] = {}

    def uninterrupted(command: str) -> RunDirectory:
        if command not in made:
            program = Program(tmp_path_factory.mktemp(command))
            args, name = RUNS[command]
            program.ok(*args)
            made[command] = RunDirectory(program.runs / name)
        return made[command]

    return uninterrupted
