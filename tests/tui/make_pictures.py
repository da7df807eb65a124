"""The README's pictures of the monitor, from real runs of the digits recipe.

    python tests/tui/make_pictures.py

Distils the shipped teacher twice (about two minutes): once into the mixture, of which the first picture is
taken while it trains, and once into a product model without lambda, which the second compares with it.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.frame import settle
from di4c_cli.tui.settings import Settings

HERE = Path(__file__).parent
RUN_SIZE, COMPARE_SIZE = (120, 40), (164, 40)  # columns and rows
_PREVIEWS = 3  # after so many the first picture is taken


async def _picture(root: Path, runs: tuple[RunDirectory, ...], size: tuple[int, int]) -> str:
    app = MonitorApp(root, runs, settings=Settings())
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        title = " ".join(["di4c monitor", *(run.name for run in runs)])
        return app.export_screenshot(title=title)


def picture(runs: tuple[RunDirectory, ...], size: tuple[int, int]) -> str:
    """The monitor on one run, or on several compared, as SVG."""
    return asyncio.run(_picture(runs[0].path.parent.parent, runs, size))


def start(root: Path, name: str, overrides: Sequence[str]) -> tuple[RunDirectory, subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "di4c_cli", "distill", "--quiet", "--name", name, "digits", *overrides]
    process = subprocess.Popen(command, env=os.environ | {"DI4C_RUNS": str(root)}, stdout=subprocess.DEVNULL)
    return RunDirectory(root / "digits" / name), process


def make_pictures(root: Path, out: Path, overrides: Sequence[str] = ()) -> list[Path]:
    """Train both runs below `root`, and write monitor.svg and compare.svg into `out`."""
    files = [out / "monitor.svg", out / "compare.svg"]
    student, process = start(root, "student-1", overrides)
    while process.poll() is None and len(student.samples()) < _PREVIEWS:
        time.sleep(0.1)
    files[0].write_text(picture((student,), RUN_SIZE), encoding="utf-8")
    ended = process.wait()
    product, process = start(root, "no-lambda", ["student.kind=product", *overrides])
    if ended or process.wait():
        raise RuntimeError("a distillation failed")
    files[1].write_text(picture((student, product), COMPARE_SIZE), encoding="utf-8")
    return files


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for file in make_pictures(Path(folder), HERE):
            print(file)
