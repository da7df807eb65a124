"""Resume cycles for as long as $SOAK_SECONDS says: neither memory nor open files grow.

SOAK_SECONDS=3600 pytest -n 0 -m slow -s tests/e2e/test_soak.py
"""

import gc
import os
import shutil
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest

from di4c_cli import pipeline, recipe_file, shipped
from di4c_cli.runs import RunDirectory

SECONDS = float(os.environ.get("SOAK_SECONDS", 60))
SETTINGS = ["train.steps=60", "train.save_every=5", "train.log_every=5", "train.batch_size=16"]
SETTINGS += ["preview.every=20", "preview.num=4", "preview.steps=[1]", "metrics=[]"]
MOST_GROWTH = 0.01  # of all memory in an hour, seen for half an hour or more; shorter runs are noise


class Killed(BaseException):
    """Stands for SIGKILL in this process."""


def cycle(number: int) -> None:
    """One distillation of the digits, killed twice and resumed each time."""

    def kill_at(killed: int | None):
        def progress(step: int, steps: int, row: dict) -> None:
            if step == killed:
                raise Killed

        return progress

    loaded = recipe_file.load(shipped.find_recipe("digits"), SETTINGS)
    run, name = None, f"soak-{number}"
    for killed in (25, 45, None):
        options = {"role": "student", "device": "cpu", "name": name, "progress": kill_at(killed)}
        with suppress(Killed):
            pipeline.train(loaded, resume=run, **options)
        run = RunDirectory.resolve(f"digits/{name}")
    assert run.status().state == "finished"
    shutil.rmtree(run.path)


def fill_table_of_interned_strings() -> None:
    """Makes the interpreter's table of interned strings move to its larger size now.

    Strings that die leave their places used up, and a hundred or so do in a cycle (names of attributes, parts
    of paths): the table would move after hundreds of cycles, 3.7 MiB once and never again.
    """
    for number in range(400_000):
        sys.intern(f"soak {number}")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nothing_grows():
    cycle(0)
    fill_table_of_interned_strings()
    process, began, seen = psutil.Process(), time.monotonic(), []
    while time.monotonic() - began < SECONDS or len(seen) < 4:
        cycle(1 + len(seen))
        gc.collect()
        held = process.memory_info()
        memory = (held.rss - held.shared) / 2**20  # pages of files come and go as the system likes
        seen.append((time.monotonic() - began, memory, process.num_fds(), process.num_threads()))
        print("{:7.0f} s  {:7.1f} MiB  {:3} files  {:3} threads".format(*seen[-1]), flush=True)
    hours, memory, files, threads = np.array(seen[len(seen) // 3 :]).T
    growth = np.polyfit(hours / 3600, memory, 1)[0] if len(hours) > 1 else 0.0
    share = growth / memory[0]
    print(f"{len(seen)} cycles: {100 * share:+.2f} % an hour, {files[-1] - files[0]:+.0f} files")
    assert files[-1] == files[0]
    assert threads[-1] == threads[0]
    assert SECONDS < 1800 or share < MOST_GROWTH
