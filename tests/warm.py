"""Runs command lines of the program, each in a fork of this process: see `program.py`.

Reads one request a line from stdin (arguments, folder, environment, files for stdout and stderr), and answers
with the exit code.
"""

import json
import os
import signal
import sys
import traceback
from typing import Any

from di4c_cli.core._vision import import_torchvision

import_torchvision()  # what takes long is imported once

import matplotlib.figure  # noqa: E402, F401
import torchmetrics.image.fid  # noqa: E402
import torchmetrics.image.kid  # noqa: E402, F401

import di4c_cli.pipeline  # noqa: E402, F401

LIMIT = 240  # seconds for one command


def run(request: dict[str, Any]) -> int:
    """What `python -m di4c_cli` does, up to its exit code."""
    signal.alarm(LIMIT)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = ["di4c", *request["args"]]
    from di4c_cli.__main__ import main

    try:
        exec(request["prelude"], {})
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(run(json.loads(line)))
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
