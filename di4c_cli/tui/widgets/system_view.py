"""This machine: processors, memory, the process of the run, GPUs; each with a bar and its last minutes."""

import math
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from rich.segment import Segment
from textual.color import Color
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from di4c_cli.tui.machine import Gpu, Machine, ProcessReading, Reading
from di4c_cli.tui.widgets import LineWidget, inks
from di4c_cli.tui.widgets.meter import FAINT, Meter, Note, core_lines, draw_items

PERIOD = 2.0  # seconds between readings
_KEPT = 300  # readings in the history
_GAP = 3 * PERIOD  # seconds without a reading after which the history has a hole
# (rows of a meter, one meter for each GPU, with the cores), from the most detailed to what must remain.
_LAYOUTS = ((4, 0, 1), (3, 0, 1), (2, 0, 1), (1, 0, 1), (1, 1, 1), (1, 1, 0))
_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"))


class SystemView(LineWidget, can_focus=True):
    """Reads the machine that the monitor runs on, and only while it can be seen."""

    @dataclass
    class Arrived(Message):
        """A reading; None: this machine does not let itself be read."""

        reading: Reading | None

    def __init__(self) -> None:
        super().__init__(id="system")
        self._machine = Machine()
        self._past: deque[Reading | None] = deque(maxlen=_KEPT)  # None: a hole
        self._last: Reading | None = None
        self._pid: int | None = None
        self._host = ""
        self._polling = False
        self._moment = -math.inf
        self._trouble = False

    def watch_process(self, pid: int | None, host: str) -> None:
        """Show the process of a run, as its status names it; None or 0: it has none (any more)."""
        if (pid or None, host) != (self._pid, self._host):
            self._pid, self._host = pid or None, host
            self.redraw()
            self.poll()

    # -- reading -----------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.border_title = f"system: {socket.gethostname()}"
        self.set_interval(PERIOD, self.poll)

    def on_show(self) -> None:
        self.poll()

    def poll(self) -> None:
        """Start a reading unless one is under way or nobody could see it."""
        if self._polling or not self.is_attached or not self._can_be_seen():
            return
        self._polling = True
        self.run_worker(self._read, thread=True, group="system")

    def _can_be_seen(self) -> bool:
        pane = [node for node in self.ancestors_with_self if isinstance(node, Widget)]
        return self.screen.is_active and all(widget.display for widget in pane)

    def _read(self) -> None:
        try:
            reading = self._machine.read(self._pid if self._is_here() else None)
        except (psutil.Error, OSError):
            reading = None
        finally:
            self._polling = False
        self.post_message(self.Arrived(reading))

    def _is_here(self) -> bool:
        return self._host in ("", socket.gethostname())

    def on_system_view_arrived(self, event: Arrived) -> None:
        moment = time.monotonic()
        if self._past and moment - self._moment > _GAP:
            self._past.append(None)
        self._moment = moment
        self._trouble = event.reading is None
        self._last = event.reading or self._last
        self._past.append(event.reading)
        self.redraw()

    # -- drawing -----------------------------------------------------------------------------

    def draw(self) -> list[Strip]:
        width, height = self.content_size
        if self._last is None:
            return [Strip([Segment("not readable here" if self._trouble else "reading …", FAINT)])]
        colours = inks(self)
        cores = core_lines(self._last.cores, width, colours[0])
        contents = [self._contents(self._last, merged, colours) for merged in (False, True)]
        drawn: list[Strip] = []
        for rows, merged, with_cores in _LAYOUTS:
            first, *others = draw_items(contents[merged], width, rows)
            drawn = [*first, *(cores if with_cores else []), *(line for lines in others for line in lines)]
            if len(drawn) <= height:
                break
        return drawn[:height]

    def _contents(self, last: Reading, merged: bool, colours: tuple[Color, ...]) -> list[Meter | Note]:
        """All there is to show; `merged`: one meter for each GPU."""
        cores = f"{len(last.cores)} core{'s' if len(last.cores) > 1 else ''}"
        swap = (f"swap {_pair(last.swap_used, last.swap_total)}",) if last.swap_total else ()
        memory = (_pair(last.memory_used, last.memory_total), *swap)
        used = self._history(lambda reading: reading.memory_used / max(1, reading.memory_total))
        contents: list[Meter | Note] = [
            Meter(
                "cpu",
                colours[0],
                self._history(lambda reading: reading.cpu),
                (f"load {last.load:.2f}", cores),
            ),
            Meter("memory", colours[1], used, memory),
            self._process(last, colours[2]),
        ]
        for index, gpu in enumerate(last.gpus):
            contents += self._gpu(index, gpu, merged, colours)
        return contents

    def _history(self, share: Callable[[Reading], float | None]) -> tuple[float, ...]:
        found = (None if reading is None else share(reading) for reading in self._past)
        return tuple(math.nan if value is None else value for value in found)

    def _process(self, last: Reading, colour: Color) -> Meter | Note:
        if self._pid is None:
            return Note("process", "not running")
        if not self._is_here():
            return Note("process", f"{self._pid} runs on host {self._host}")
        process = last.process
        if process is None or process.pid != self._pid:
            return Note("process", f"{self._pid} is not running")

        def share(reading: Reading) -> float | None:
            here = reading.process
            return here.cpu / len(reading.cores) if here is not None and here.pid == self._pid else None

        return Meter("process", colour, self._history(share), _process_details(process))

    def _gpu(self, index: int, gpu: Gpu, merged: bool, colours: tuple[Color, ...]) -> list[Meter | Note]:
        def at(share: Callable[[Gpu], float | None]) -> tuple[float, ...]:
            return self._history(
                lambda reading: share(reading.gpus[index]) if index < len(reading.gpus) else None
            )

        memory = ()
        if gpu.memory_used is not None and gpu.memory_total:
            memory = (_pair(gpu.memory_used, gpu.memory_total),)
        heat = () if gpu.temperature is None else (f"{gpu.temperature} °C",)
        power = () if gpu.power is None else (f"{gpu.power:.0f} W",)
        use = at(lambda gpu: gpu.utilisation)
        if merged:
            return [Meter(f"gpu {index}", colours[3], use, (*memory, *heat, *power, gpu.name))]
        return [
            Meter(f"gpu {index}", colours[3], use, (*heat, *power, gpu.name)),
            Meter(f"vram {index}", colours[4], at(_memory_share), memory),
        ]


def _memory_share(gpu: Gpu) -> float | None:
    return gpu.memory_used / gpu.memory_total if gpu.memory_used is not None and gpu.memory_total else None


def _process_details(process: ProcessReading) -> tuple[str, ...]:
    threads = f"{process.threads} thread{'s' if process.threads != 1 else ''}"
    return (_size(process.resident), f"{process.cpu:.1f} cores", threads, f"pid {process.pid}")


def _unit(amount: int) -> tuple[int, str]:
    return next((unit for unit in _UNITS if amount >= unit[0]), _UNITS[-1])


def _size(amount: int) -> str:
    unit, name = _unit(amount)
    return f"{amount / unit:.1f} {name}"


def _pair(used: int, total: int) -> str:
    unit, name = _unit(total)
    return f"{used / unit:.1f}/{total / unit:.1f} {name}"
