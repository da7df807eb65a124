"""What it means to be told that something given is wrong."""

from program import Program


def refused(program: Program, *args: object, **options: str) -> list[str]:
    """The lines of a refusal; asserts that it leaves no trace."""
    before = program.files()
    outcome = program(*args, **options)
    assert outcome.code == 2, (outcome.code, outcome.err, outcome.out)
    assert outcome.out == ""
    assert program.files() == before
    assert outcome.complaint
    return outcome.complaint
