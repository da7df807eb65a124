"""A home for each test, and one tiny teacher and student of the digits for all of them."""

import pytest
from program import TINY, TINY_TEACHER, Program


@pytest.fixture
def program(tmp_path):
    """The program in an empty folder."""
    return Program(tmp_path)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A home with `digits/teacher-1` and `digits/student-1`, both finished within seconds."""
    program = Program(tmp_path_factory.mktemp("digits"))
    program.ok("train-teacher", "digits", *TINY_TEACHER)
    quick = ["eval.steps=[1]", "eval.models=['teacher']", "metrics.5.num=20", "metrics.5.num_latents=4"]
    program.ok("distill", "digits", *TINY, *quick)
    return program


@pytest.fixture
def beside(digits, tmp_path):
    """The program in an empty folder, with the runs of `digits`."""
    return Program(tmp_path, digits.runs)
