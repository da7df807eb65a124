"""The real program on a terminal of its own, and what it costs there."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FRAME = b"\x1b[?2026h"  # begins a frame on a terminal that takes frames as a whole
_ANSWERS = {b"\x1b[?2026$p": b"\x1b[?2026;2$y", b"\x1b[c": b"\x1b[?62c"}
"""What it says when it is asked whether it does that, and what it is."""


class Terminal:
    """Runs `di4c` in it. `frames`: the moments at which something was painted.

    controlling: the program is told by a signal when its terminal is gone.
    """

    def __init__(self, *arguments: object, size: tuple[int, int], controlling: bool) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", size[1], size[0], 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "di4c_cli", *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
            preexec_fn=_own_the_terminal if controlling else None,
        )
        os.close(theirs)
        self.frames: list[float] = []
        self.output = b""
        self._hung_up = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        open_questions = dict(_ANSWERS)
        while not self._hung_up:
            if not select.select([self._ours], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._ours, 2**16)
            except OSError:  # the program has ended
                return
            before = self.output.count(_FRAME)
            self.output += data
            self.frames += [time.monotonic()] * (self.output.count(_FRAME) - before)
            for question in [question for question in open_questions if question in self.output]:
                os.write(self._ours, open_questions.pop(question))

    def shows(self, text: str) -> bool:
        """Whether that was written at one time, in one piece."""
        return text.encode() in self.output

    def press(self, keys: str) -> None:
        for key in keys:
            os.write(self._ours, key.encode())
            time.sleep(0.05)

    def hang_up(self) -> None:
        """Close the terminal, as one does with a window."""
        if not self._hung_up:
            self._hung_up = True
            self._reader.join()
            os.close(self._ours)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> int:
        """The most memory that it ever had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    def mapped(self) -> str:
        """The files in its memory: libraries that it has loaded are among them."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()


def _own_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(
    *arguments: object, size: tuple[int, int] = (120, 40), controlling: bool = True
) -> Iterator[Terminal]:
    opened = Terminal(*arguments, size=size, controlling=controlling)
    try:
        yield opened
    finally:
        opened.close()
