"""Work on several ranks, each a fork of this process: nothing is imported anew."""

import os
import pickle
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 100  # seconds


def on_ranks(num: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work(rank)` gives on each rank; of one that exits its SystemExit, of a killed one -signal.

    Ranks meet when `work` calls `ranks.join`.
    """
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        children = []
        for rank in range(num):
            child = os.fork()
            if child == 0:
                _run(work, rank, num, port, Path(folder) / str(rank))
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert max(codes) == 0, codes
        return [
            code or pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank, code in enumerate(codes)
        ]


def _run(work: Callable[[int], Any], rank: int, num: int, port: int, result: Path) -> None:
    """In the fork, which ends here."""
    signal.alarm(LIMIT)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    code = 1
    try:
        try:
            given = work(rank)
        except SystemExit as stop:
            given = stop
        result.write_bytes(pickle.dumps(given))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
