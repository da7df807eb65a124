"""One thread for every test (set before torch is imported), and runs that stay in the test's own folder."""

import os
from collections.abc import Callable
from pathlib import Path

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


@pytest.fixture(scope="session")
def share_classifiers(tmp_path_factory) -> Callable[[Path], None]:
    """Lets a folder of runs use and keep the metrics' classifiers of this session: each takes seconds.

    Its name tells all that shaped one. Other workers may write there at the same time, as other runs may.
    """
    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "classifiers"
    kept.mkdir(exist_ok=True)

    def share(runs: Path) -> None:
        runs.mkdir(parents=True)
        (runs / ".cache").symlink_to(kept)

    return share
