"""One thread for every test (set before torch is imported), and runs that stay in the test's own folder."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _own_runs(tmp_path, monkeypatch):
    """No test sees or leaves a run outside its folder, or depends on the user's terminal."""
    monkeypatch.setenv("DI4C_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
