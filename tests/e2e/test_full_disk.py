"""A disk that is full while a run is saved: at most the newest steps are lost."""

import pytest
from exact import DISTILL, SAVE_EVERY, STEPS, assert_same_run

from di4c_cli.runs import RunDirectory

HALF_WRITTEN = """
import errno
from di4c_cli.core import checkpoints
save, left = checkpoints.save_file, iter(range({files}))
def save_file(tensors, path, **options):
    if next(left, None) is None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
    save(tensors, path, **options)
checkpoints.save_file = save_file
"""
SAFETENSORS_OWN = HALF_WRITTEN.replace(
    'OSError(errno.ENOSPC, "No space left on device", str(path))',
    'checkpoints.SafetensorError("I/O error: No space left on device (os error 28)")',
)
AT_THE_RENAME = """
import errno
from di4c_cli.core import checkpoints
replace, left = checkpoints.os.replace, iter(range({saves}))
def refuse(source, target):
    if str(source).endswith(".tmp") and "step-" in str(target) and next(left, None) is None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))
    replace(source, target)
checkpoints.os.replace = refuse
"""
AT_A_LOG_LINE = """
import errno
from di4c_cli.runs import RunDirectory
append, left = RunDirectory.append_metrics, iter(range({lines}))
def append_metrics(run, row):
    if next(left, None) is None:
        raise OSError(errno.ENOSPC, "No space left on device", str(run.metrics_path))
    append(run, row)
RunDirectory.append_metrics = append_metrics
"""
A_FAILING_DISK = AT_A_LOG_LINE.replace("ENOSPC", "EIO").replace(
    "No space left on device", "Input/output error"
)
LARGEST_FILE = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"


@pytest.mark.parametrize(
    ("prelude", "saved"),
    [
        (HALF_WRITTEN.format(files=3 * 2 + 1), 2),
        pytest.param(SAFETENSORS_OWN.format(files=3 * 2 + 2), 2, marks=pytest.mark.slow),
        (AT_THE_RENAME.format(saves=1), 1),
        (AT_A_LOG_LINE.format(lines=15), 3),
        pytest.param(A_FAILING_DISK.format(lines=15), 3, marks=pytest.mark.slow),
        pytest.param(LARGEST_FILE, 0, marks=pytest.mark.slow),
    ],
    ids=["write", "write by safetensors", "rename", "log line", "failing disk", "file size limit"],
)
def test_a_full_disk_costs_at_most_the_newest_steps(program, uninterrupted, prelude, saved):
    run = RunDirectory(program.runs / "toy/student-1")
    outcome = program(*DISTILL, "--quiet", "train.keep=9", prelude=prelude)
    assert outcome.code == 1
    assert len(outcome.complaint) == 1
    assert f"--resume {run.path}" in outcome.err
    assert [path.name for path in run.checkpoints()] == [f"step-{SAVE_EVERY * (n + 1)}" for n in range(saved)]
    assert not run.final.exists()
    assert not list(run.path.glob("*.tmp"))
    assert run.status().state == "failed"
    if saved:
        program.ok("sample", run.path, "--num", 2)
    program.ok("distill", "--resume", "latest")
    assert_same_run(run, uninterrupted("distill"))


LITTLE_ROOM = """
import shutil, collections
usage = collections.namedtuple("usage", "total used free")
shutil.disk_usage = lambda path: usage(10**9, 10**9, 50_000)
"""


def test_room_is_looked_for_before_there_is_a_run(program):
    outcome = program(*DISTILL, "network.width=64", "train.keep=30", prelude=LITTLE_ROOM)
    assert outcome.code == 1
    (complaint,) = outcome.complaint
    assert "0 MB are free, and the checkpoints of this run need" in complaint
    assert "lower train.keep" in complaint
    assert not program.runs.exists()
    facts = program.ok(*DISTILL, "--dry-run", "--json").json
    assert 0 < facts["disk_mb"] < 10


def test_a_finished_model_survives_its_successor_s_failure(program):
    """A finished run trained on for more steps replaces `final`, or keeps it."""
    program.ok(*DISTILL)
    final = program.runs / "toy/student-1/final"
    before = {path.name: path.read_bytes() for path in final.iterdir()}
    refused = AT_THE_RENAME.format(saves=0).replace("step-", "final")
    outcome = program(
        "distill", "--resume", "latest", f"train.steps={STEPS + 20}", "--quiet", prelude=refused
    )
    assert outcome.code == 1
    assert {path.name: path.read_bytes() for path in final.iterdir()} == before
    program.ok("sample", "latest", "--num", 2)
    program.ok("distill", "--resume", "latest", f"train.steps={STEPS + 20}")
    assert (final / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert sorted(path.name for path in final.parent.glob(".*")) == []
