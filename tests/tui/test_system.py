"""The pane of the machine: its readings, and how they are drawn."""

import asyncio
import itertools
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import psutil
import pytest
from dialogs import until
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.screen import Screen

from di4c_cli.tui.machine import Gpu, Machine, ProcessReading, Reading
from di4c_cli.tui.widgets import system_view
from di4c_cli.tui.widgets.system_view import SystemView

HERE = socket.gethostname()
GIB = 2**30
BUSY = "while True: pass"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"


class Shown(App[None]):
    """The pane alone, on a screen with the breakpoints of the monitor."""

    CSS = """SystemView { border: round white; padding: 0 1; }
    .-tiny SystemView { border: none; padding: 0; }"""

    class Main(Screen[None]):
        VERTICAL_BREAKPOINTS: ClassVar = [(0, "-tiny"), (12, "-short")]

        def compose(self) -> ComposeResult:
            yield SystemView()

    def get_default_screen(self) -> Screen[None]:
        return self.Main()

    @property
    def view(self) -> SystemView:
        return self.screen_stack[0].query_one(SystemView)

    async def text(self, pilot: Pilot[None]) -> str:
        """What is on the screen once a reading that is under way has arrived."""
        await self.workers.wait_for_complete()
        await pilot.pause()
        return "\n".join(strip.text.rstrip() for strip in self.screen._compositor.render_strips())


Act = Callable[[Shown, Pilot[None]], Awaitable[None]]


def drive(act: Act, size: tuple[int, int] = (80, 24)) -> None:
    async def main() -> None:
        app = Shown()
        async with app.run_test(size=size) as pilot:
            await app.text(pilot)
            await act(app, pilot)

    asyncio.run(main())


def gpu(index: int) -> Gpu:
    return Gpu(f"card {index}", index / 10, index * GIB, 80 * GIB, 40 + index, 250.4)


def reading(cores: int = 8, gpus: int = 0, **changes: Any) -> Reading:
    """A machine that is half busy."""
    figures: dict[str, Any] = {
        "cpu": 0.5,
        "cores": tuple(float(index % 2) for index in range(cores)),
        "load": 3.25,
        "memory_used": 16 * GIB,
        "memory_total": 64 * GIB,
        "swap_used": 0,
        "swap_total": 0,
        "process": None,
        "gpus": tuple(map(gpu, range(gpus))),
    }
    return Reading(**{**figures, **changes})


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    """What the machine says, one reading after the other; the last one stays."""
    readings = [reading()]

    def read(_: Machine, pid: int | None) -> Reading:
        return readings.pop(0) if len(readings) > 1 else readings[0]

    monkeypatch.setattr(Machine, "read", read)
    return readings


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process; it and its children are gone afterwards."""
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process
    finally:
        if process.poll() is None:
            for member in (*psutil.Process(process.pid).children(recursive=True), process):
                member.kill()
        process.wait()


# -- processors and processes ------------------------------------------------------------------


def test_the_figures_are_those_of_the_machine() -> None:
    taken = Machine().read(None)
    assert len(taken.cores) == psutil.cpu_count()
    assert all(0 <= share <= 1 for share in (taken.cpu, *taken.cores))
    assert taken.memory_total == psutil.virtual_memory().total
    assert 0 < taken.memory_used < taken.memory_total
    assert taken.process is None


def test_a_core_is_as_busy_as_the_time_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    Times = namedtuple("Times", "user system idle iowait guest guest_nice")
    clock = itertools.count()

    def cpu_times(percpu: bool) -> list[Any]:
        seconds = 10 * next(clock)  # guests are in the user time already; waiting is not work
        work = [Times(0.0, 0.0, 9.0, 1.0, 0.0, 0.0), Times(4.0, 1.0, 5.0, 0.0, 4.0, 0.0)] * 32
        return [Times(*(share * seconds / 10 for share in core)) for core in work]

    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    taken = Machine().read(None)
    assert taken.cores == pytest.approx([0.0, 0.5] * 32)
    assert taken.cpu == pytest.approx(0.25)


def test_a_process_is_read_with_its_children() -> None:
    machine = Machine()
    with running(CHILD) as process:
        while not psutil.Process(process.pid).children():
            time.sleep(0.01)
        machine.read(process.pid)
        time.sleep(0.4)
        taken = machine.read(process.pid).process
        assert taken is not None
        assert taken.pid == process.pid
        assert taken.cpu > 0.2  # the child works, its parent waits
        assert taken.threads == 2
        assert taken.resident > psutil.Process(process.pid).memory_info().rss
    assert machine.read(process.pid).process is None


def test_a_process_that_nobody_waits_for_has_ended() -> None:
    machine = Machine()
    with running("") as process:
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert machine.read(process.pid).process is None


@pytest.mark.parametrize("pid", [-1, 0, 2**22 + 1])
def test_a_process_that_never_was_is_none(pid: int) -> None:
    assert Machine().read(pid).process is None


# -- GPUs --------------------------------------------------------------------------------------


class Nvml(ModuleType):
    """As much of pynvml as is used, with `count` cards; `refused`: the query that fails."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, count: int, refused: str = "") -> None:
        super().__init__("pynvml")
        self.count = count
        if refused:
            setattr(self, refused, self.refuse)

    def refuse(self, *_: Any) -> None:
        raise self.NVMLError("not supported")

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes | str:
        return f"card {handle}" if handle else b"card 0"  # old versions give bytes

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=10 * handle, memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=handle * GIB, total=80 * GIB, free=0)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 40 + handle

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 250_400


@pytest.mark.parametrize("count", [0, 1, 8])
def test_every_gpu_is_read(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(count))
    assert list(Machine().read(None).gpus) == list(map(gpu, range(count)))


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("nvmlDeviceGetPowerUsage", {"power"}),
        ("nvmlDeviceGetUtilizationRates", {"utilisation"}),
        ("nvmlDeviceGetMemoryInfo", {"memory_used", "memory_total"}),
        ("nvmlDeviceGetTemperature", {"temperature"}),
        ("nvmlDeviceGetName", set()),
    ],
)
def test_a_refused_query_leaves_the_other_figures(
    query: str, missing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(1, refused=query))
    found = Machine().read(None).gpus[0]
    assert {name for name, value in vars(found).items() if value is None} == missing


@pytest.mark.parametrize("refused", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_a_driver_in_trouble_has_no_gpus(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(3, refused))
    assert Machine().read(None).gpus == ()


def test_without_the_package_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Machine().read(None).gpus == ()


# -- what it shows -----------------------------------------------------------------------------


def test_everything_is_on_the_screen(said: list[Reading]) -> None:
    swap = {"swap_used": 2 * GIB, "swap_total": 8 * GIB}
    said[:] = [reading(gpus=2, process=ProcessReading(7, 2.0, 3 * GIB // 2, 14), **swap)]

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.view.watch_process(7, HERE)
        text = await app.text(pilot)
        shown = [f"system: {HERE}", "50%", "load 3.25", "8 cores", "▁   0%", "█ 100%"]
        shown += ["25%", "16.0/64.0 GiB", "swap 2.0/8.0 GiB", "1.5 GiB", "2.0 cores", "14 threads", "pid 7"]
        shown += ["gpu 1", "10%", "card 1", "41 °C", "250 W", "1.0/80.0 GiB", "1%"]
        assert [piece for piece in shown if piece not in text] == []
        columns = {line.index("%") for line in text.splitlines() if "━" in line}
        assert len(columns) == 1  # the figures stand below each other

    drive(act, (100, 40))


@pytest.mark.parametrize("size", [(42, 16), (60, 20), (80, 24), (120, 40)])
def test_64_cores_and_8_gpus_are_all_there(said: list[Reading], size: tuple[int, int]) -> None:
    said[:] = [reading(cores=64, gpus=8)]

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        text = await app.text(pilot)
        assert text.count("▁") == text.count("█") == 32
        for index in range(8):
            assert f"gpu {index}" in text
            assert f"{index}.0/80.0 GiB" in text

    drive(act, size)


def test_what_is_unknown_is_a_dash(said: list[Reading]) -> None:
    said[:] = [replace(reading(), gpus=(Gpu("card", None, None, None, None, None),))]

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        lines = (await app.text(pilot)).splitlines()
        assert any("gpu 0" in line and " – " in line for line in lines)
        assert not any("nan" in line or "None" in line for line in lines)

    drive(act)


def test_the_process_of_a_run(said: list[Reading]) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        assert "process  not running" in await app.text(pilot)
        app.view.watch_process(1234, "elsewhere")
        assert "process  1234 runs on host elsewhere" in await app.text(pilot)
        app.view.watch_process(None, "elsewhere")
        assert "process  not running" in await app.text(pilot)
        app.view.watch_process(1234, HERE)
        assert "process  1234 is not running" in await app.text(pilot)

    drive(act)


def test_a_real_process_is_watched_until_it_ends() -> None:
    with running(BUSY) as process:

        async def act(app: Shown, pilot: Pilot[None]) -> None:
            app.view.watch_process(process.pid, HERE)
            text = await app.text(pilot)
            assert f"pid {process.pid}" in text
            assert "1 thread " in text
            process.kill()
            process.wait()
            app.view.poll()
            assert f"{process.pid} is not running" in await app.text(pilot)

        drive(act, (110, 24))


def test_the_past_is_drawn_and_shows_its_holes(said: list[Reading], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_view, "_GAP", 0.2)
    said[:] = [reading(cpu=share) for share in (1.0, 1.0, 0.0)]

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.view.poll()
        assert (await app.text(pilot)).splitlines()[1].rstrip("│ ")[-1] == "⣿"
        await pilot.pause(0.3)
        app.view.poll()
        assert (await app.text(pilot)).splitlines()[3].rstrip("│ ")[-2:] == "⣿⢀"  # a hole, then 0

    drive(act, (80, 11))


def test_a_machine_that_cannot_be_read_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(Machine, "read", refuse)

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        assert "not readable here" in await app.text(pilot)

    drive(act)


# -- when it reads, and how small it gets ------------------------------------------------------


def test_it_reads_only_while_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []

    def read(_: Machine, pid: int | None) -> Reading:
        taken.append(time.monotonic())
        return reading()

    monkeypatch.setattr(Machine, "read", read)
    monkeypatch.setattr(system_view, "PERIOD", 0.05)

    async def reads(app: Shown, pilot: Pilot[None]) -> None:
        await app.text(pilot)
        before, began = len(taken), time.monotonic()
        await until(pilot, lambda: len(taken) >= before + 6)
        assert len(taken) - before <= (time.monotonic() - began) / system_view.PERIOD + 2

    async def rests(app: Shown, pilot: Pilot[None]) -> None:
        await app.text(pilot)
        before = len(taken)
        await pilot.pause(0.3)
        assert len(taken) == before

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        await reads(app, pilot)
        await app.push_screen(Screen())
        await rests(app, pilot)
        app.pop_screen()
        await reads(app, pilot)
        app.view.display = False
        await rests(app, pilot)
        app.view.display = True
        await reads(app, pilot)

    drive(act)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (20, 5), (8, 6), (200, 3), (40, 12), (33, 9)])
def test_any_size_draws(said: list[Reading], size: tuple[int, int]) -> None:
    said[:] = [reading(cores=64, gpus=8, process=ProcessReading(7, 2.0, GIB, 3))]

    async def act(app: Shown, pilot: Pilot[None]) -> None:
        app.view.watch_process(7, HERE)
        lines = (await app.text(pilot)).splitlines()
        assert len(lines) <= size[1]
        assert all(len(line) <= size[0] for line in lines)
        for other in ((3, 3), (120, 40), size):
            await pilot.resize_terminal(*other)
        assert (await app.text(pilot)).splitlines() == lines

    drive(act, size)


def test_a_tiny_terminal_shows_the_figures(said: list[Reading]) -> None:
    async def act(app: Shown, pilot: Pilot[None]) -> None:
        cpu, cores, memory, process = (await app.text(pilot)).splitlines()[:4]
        assert (cpu[:3], cpu[-4:]) == ("cpu", " 50%")
        assert cores.endswith("▁█▁█▁█▁█")
        assert (memory[:6], memory[-4:]) == ("memory", " 25%")
        assert process.startswith("process")

    drive(act, (20, 5))
