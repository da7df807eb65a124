"""How far a long piece of work is: core code tells, and whoever has a terminal listens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[int, int, str], None]
Remark = Callable[[str], None]


_report: ContextVar[Report | None] = ContextVar("report", default=None)
_remark: ContextVar[Remark | None] = ContextVar("remark", default=None)


def report(done: int, total: int, what: str) -> None:
    """`done` of `total` units of the work named `what`; nothing happens where nobody listens.

    One piece of work keeps its name from its first report to `done == total`. Called often: a listener that
    draws has to skip most calls by itself.
    """
    if (listen := _report.get()) is not None:
        listen(done, total, what)


def remark(text: str) -> None:
    """One line that a user should read after the work, such as what had to be left out."""
    if (listen := _remark.get()) is not None:
        listen(text)


@contextmanager
def reporting(report: Report | None = None, remark: Remark | None = None) -> Iterator[None]:
    """Within, `report(done, total, what)` and `remark(text)` hear what core code tells (not from threads)."""
    tokens = _report.set(report), _remark.set(remark)
    try:
        yield
    finally:
        _report.reset(tokens[0])
        _remark.reset(tokens[1])
