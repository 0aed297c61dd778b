"""Look at other processes: which there were, how much memory they took, and which are left."""

import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil


class Watch:
    """Looks at processes from a thread while it is entered: which there were, and the most memory that one of them had.

    The kernel's own figure for children that have ended is no use: it counts what they shared with this process when
    they were forked.
    """

    INTERVAL_S = 0.05
    """No worker is missed: one takes several times as long to import its algebra."""

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: set[int] = set()
        self.peak_mib = 0.0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        own = _read(Path("/proc/self/cmdline"))
        while not self._over.wait(self.INTERVAL_S):
            for pid in self._processes():
                self.seen.add(pid)
                # Until it has become its own program, a new process shows this one's memory.
                if _read(Path(f"/proc/{pid}/cmdline")) != own:
                    self.peak_mib = max(self.peak_mib, _peak_mib(pid))


def marked(variable: str, value: str) -> Iterator[psutil.Process]:
    """The processes that live with this in their environment, as all do that a process with it has started."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def titled(processes: Iterable[psutil.Process], fits: Callable[[str], bool]) -> list[psutil.Process]:
    """Those whose command line fits, by id."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if fits(" ".join(process.cmdline())):
                found.append(process)
    return sorted(found, key=lambda p: p.pid)


def kill_left(processes: Callable[[], Iterable[psutil.Process]], within_s: float) -> int:
    """Wait until the processes have ended by themselves. Kill those that are left; returns their number."""
    deadline = time.monotonic() + within_s
    while (left := list(processes())) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    return len(left)


def peak_mib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _peak_mib(pid: int) -> float:
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _read(path: Path) -> str:
    """A process may end between two reads; it is nothing then."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
