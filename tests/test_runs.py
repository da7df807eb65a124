"""Run directories: what a killed writer leaves is cleared away or put back."""

from di4c_cli.runs import RunDirectory


def test_what_a_killed_writer_left_is_cleared_away_or_put_back(tmp_path):
    run = RunDirectory.create("digits", "student", root=tmp_path)
    for name in ("step-4", "step-6.tmp", ".step-4.old", ".final.old"):
        (run.path / name).mkdir()
        (run.path / name / "config.json").write_text(name)
    (run.path / ".status.json.1.tmp").write_text("half")
    run.remove_half_written()
    left = {path.name: (path / "config.json").read_text() for path in run.path.iterdir()}
    assert left == {"step-4": "step-4", "final": ".final.old"}
