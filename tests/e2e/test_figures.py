"""The figures that the recipes promise, by training them as they are shipped: minutes (`pytest -m slow`)."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TEACHER_AT_1 = 0.7242
"""Exact total variation of the toy's teacher in one step."""


def figures(result: dict) -> dict[tuple[str, int], dict[str, float]]:
    """Metrics by model and number of steps."""
    return {(row["model"], row["steps"]): row["metrics"] for row in result["evaluation"]["rows"]}


def test_toy_gains_in_one_step(program):
    result = program.ok("distill", "toy", "--json").json
    assert result["seconds"] <= 120
    rows = figures(result)
    assert rows["teacher", 1]["tv"] == pytest.approx(TEACHER_AT_1, abs=1e-4)
    assert rows["student", 1]["tv"] <= 0.12


@pytest.mark.parametrize(
    "without", ['losses=[{kind="marginal"}]', "student.kind=product"], ids=["correlation", "mixture"]
)
def test_toy_gains_nothing_without_correlation_or_mixture(program, without):
    rows = figures(program.ok("distill", "toy", without, "eval.steps=[1]", "--json").json)
    assert rows["student", 1]["tv"] == pytest.approx(TEACHER_AT_1, rel=0.1)


def test_digits_halve_the_steps(program):
    result = program.ok("distill", "digits", "eval.models=['teacher','student']", "--json").json
    assert result["seconds"] <= 120
    rows = figures(result)
    for k in (1, 2, 4):
        student, teacher = rows["student", k], rows["teacher", 2 * k]
        assert student["fd_test"] <= teacher["fd_test"], k
        assert student["nll_bound"] < teacher["nll_bound"], k
    assert rows["student", 1]["fd_test"] <= rows["teacher", 4]["fd_test"]
    for k in (1, 2, 4, 8):
        assert rows["student", k]["copies"] <= rows["teacher", k]["copies"], k
