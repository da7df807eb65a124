"""The process around a run: one at a time, and how signals end it."""

import signal

import pytest

from di4c_cli.errors import Interrupted, UsageError
from di4c_cli.runs import RunDirectory
from di4c_cli.session import ended_by_signals, owned, stop_on_signals


def test_a_run_is_owned_by_one_process_at_a_time(tmp_path):
    run = RunDirectory.create("digits", "student", root=tmp_path)
    with owned(run):
        with pytest.raises(UsageError, match="is still running"), owned(run):
            pass
        assert list(run.path.iterdir()) == []  # no lock file that could stay behind
    with owned(run):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_with_nothing_to_save_ends_at_a_signal_also_one_that_came_too_late_for_its_run(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as ended, ended_by_signals():
        signal.raise_signal(number)
    assert ended.value.exit_code == 128 + number
    reached = []

    def run_and_go_on():
        with ended_by_signals():
            with stop_on_signals():
                signal.raise_signal(number)
                reached.append("the last step")
            reached.append("what comes after it")

    with pytest.raises(Interrupted):
        run_and_go_on()
    assert reached == ["the last step"]
    with pytest.raises(Interrupted, match="the run had just finished") as ended, stop_on_signals():
        signal.raise_signal(number)
    assert ended.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
