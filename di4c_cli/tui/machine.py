"""What this machine is doing: its processors, its memory, its GPUs, and the process of a run.

Nothing here knows a screen. Shares lie between 0 and 1, memory is in bytes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

_FIRST = 0.1  # seconds over which a first reading measures: shares need two moments
_SEARCH_EVERY = 5  # readings between searches for children, each of which walks all processes of the machine


@dataclass(frozen=True)
class Gpu:
    """One GPU; None where it refuses to tell. Temperature in degrees Celsius, power in watts."""

    name: str
    utilisation: float | None
    memory_used: int | None
    memory_total: int | None
    temperature: int | None
    power: float | None


@dataclass(frozen=True)
class ProcessReading:
    """A process with all its children. `cpu`: how many cores they keep busy.

    Memory that several of them share counts once for each.
    """

    pid: int
    cpu: float
    resident: int
    threads: int


@dataclass(frozen=True)
class Reading:
    """The machine at one moment, with what its processors did since the reading before.

    `load` is the average over one minute; `process` is None where none was asked for or it has ended.
    """

    cpu: float
    cores: tuple[float, ...]
    load: float
    memory_used: int
    memory_total: int
    swap_used: int
    swap_total: int
    process: ProcessReading | None
    gpus: tuple[Gpu, ...]


class Machine:
    """Takes readings in a worker thread, one at a time, and keeps what lies between two of them."""

    def __init__(self) -> None:
        self._times: list[tuple[float, float]] = []  # busy and all seconds of each core so far
        self._pid: int | None = None
        self._watch: _ProcessWatch | None = None
        self._cards: _Cards | None = None

    def read(self, pid: int | None) -> Reading:
        """The machine now, and process `pid`. A first reading (of that process) takes a moment longer."""
        if self._begin(pid):
            time.sleep(_FIRST)
        times = _core_times()
        # A core may have been switched on or off since the reading before.
        before = self._times if len(self._times) == len(times) else times
        cores = tuple(_share(*now, *then) for now, then in zip(times, before, strict=True))
        self._times = times
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        return Reading(
            cpu=sum(cores) / max(1, len(cores)),
            cores=cores,
            load=psutil.getloadavg()[0],
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            swap_used=swap.used,
            swap_total=swap.total,
            process=self._watch.read() if self._watch else None,
            gpus=self._cards.read() if self._cards else (),
        )

    def _begin(self, pid: int | None) -> bool:
        """Whether there is nothing yet to compare the next reading with."""
        first = self._cards is None
        if self._cards is None:
            self._cards = _Cards()
            self._times = _core_times()
        if pid != self._pid:
            self._pid = pid
            self._watch = _ProcessWatch(pid) if pid is not None and pid > 0 else None
            first |= self._watch is not None and self._watch.read() is not None
        return first


def _core_times() -> list[tuple[float, float]]:
    # psutil.cpu_percent would compare per calling thread, and workers change theirs.
    return [_busy_and_all(times._asdict()) for times in psutil.cpu_times(percpu=True)]


def _busy_and_all(spent: dict[str, float]) -> tuple[float, float]:
    """Seconds of a core in work and altogether; the time of guests is in its user time already."""
    every = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
    return every - spent["idle"] - spent.get("iowait", 0.0), every


def _share(busy: float, every: float, busy_before: float, every_before: float) -> float:
    passed = every - every_before
    return min(1.0, max(0.0, (busy - busy_before) / passed)) if passed > 0 else 0.0


class _ProcessWatch:
    """Adds up a process and its children."""

    def __init__(self, pid: int) -> None:
        self._family: list[psutil.Process] = []
        self._seconds: dict[int, float] = {}  # of processor time at the reading before, by process
        self._moment = time.monotonic()
        self._readings = 0
        try:
            self._root: psutil.Process | None = psutil.Process(pid)
        except psutil.Error:
            self._root = None

    def read(self) -> ProcessReading | None:
        """None once the process has ended, also when its number has gone to another one."""
        if self._root is None or not self._find_family(self._root):
            self._root = None
            return None
        moment = time.monotonic()
        seconds: dict[int, float] = {}
        resident = threads = 0
        for process in self._family:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    resident += process.memory_info().rss
                    threads += process.num_threads()
                seconds[process.pid] = times.user + times.system
            except psutil.Error:  # it ended a moment ago
                continue
        spent = sum(now - self._seconds.get(pid, now) for pid, now in seconds.items())
        cpu = spent / max(moment - self._moment, 1e-3)
        self._seconds, self._moment = seconds, moment
        return ProcessReading(self._root.pid, cpu, resident, threads)

    def _find_family(self, root: psutil.Process) -> bool:
        """Whether the process still runs; now and then its children are looked for."""
        try:
            if not root.is_running() or root.status() == psutil.STATUS_ZOMBIE:
                return False
            if self._readings % _SEARCH_EVERY == 0:
                self._family = [root, *root.children(recursive=True)]
        except psutil.Error:
            return False
        self._readings += 1
        return True


class _Cards:
    """NVIDIA's GPUs through NVML; without the package or the driver there are none."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handles = list(map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount())))
        except Exception:  # a driver may be missing, half installed, or of another age
            self._handles = []

    def read(self) -> tuple[Gpu, ...]:
        return tuple(map(self._read, self._handles))

    def _read(self, handle: Any) -> Gpu:
        nvml = self._nvml
        name = self._ask(nvml.nvmlDeviceGetName, handle)
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        return Gpu(
            name=name.decode() if isinstance(name, bytes) else name or "GPU",
            utilisation=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else memory.used,
            memory_total=None if memory is None else memory.total,
            temperature=self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            power=None if milliwatts is None else milliwatts / 1000,
        )

    def _ask(self, query: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return query(*arguments)
        except self._nvml.NVMLError:
            return None
