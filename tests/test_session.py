"""The process around a run: one at a time."""

import pytest

from di4c_cli.errors import UsageError
from di4c_cli.runs import RunDirectory
from di4c_cli.session import owned


def test_a_run_is_owned_by_one_process_at_a_time(tmp_path):
    run = RunDirectory.create("digits", "student", root=tmp_path)
    with owned(run):
        with pytest.raises(UsageError, match="is still running"), owned(run):
            pass
        assert list(run.path.iterdir()) == []  # no lock file that could stay behind
    with owned(run):
        pass
