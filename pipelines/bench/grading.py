"""`steer bench grading`: verdicts a second a core for ordinary outputs; time, memory and side effects of hostile ones.

The time of a verdict is that of this process and of its symbolic worker together, which take turns on one core. CPU
time is measured beside wall-clock time: on a machine that others use it varies less.
"""

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

from campaigns.hostile_outputs import GOLDS, KINDS, LABELS, hostile_outputs

from pipelines.bench.ordinary_outputs import ordinary_outputs
from steer.grading import GRADERS, grade

REPEATS = 5
"""Each on outputs of its own, so that nothing an earlier repeat has worked out is there to be looked up."""

ORDINARY = {"math": 400}
ORDINARY_CHEAP = 4_000
"""Outputs a repeat: one of `math` takes milliseconds, one of the other graders a hundredth of that."""

HOSTILE = 5_000


def bench_grading() -> list[dict]:
    """One row a grader on ordinary outputs, one row on hostile outputs."""
    return [*(_ordinary(grader) for grader in GRADERS), _hostile(HOSTILE, seed=0)]


def _ordinary(grader: str) -> dict:
    count = ORDINARY.get(grader, ORDINARY_CHEAP)
    for case in ordinary_outputs(grader, 50, seed=-1):
        grade(case.text, case.gold, grader, case.labels)
    per_cpu_s, per_s, expected = [], [], 0
    for seed in range(REPEATS):
        cases = ordinary_outputs(grader, count, seed)
        started, started_cpu = time.perf_counter(), cpu_s()
        verdicts = [grade(case.text, case.gold, grader, case.labels) for case in cases]
        per_cpu_s.append(count / (cpu_s() - started_cpu))
        per_s.append(count / (time.perf_counter() - started))
        expected += sum(verdict.correct == case.correct for verdict, case in zip(verdicts, cases, strict=True))
    return {
        "grader": grader,
        "outputs": count,
        "repeats": REPEATS,
        "verdicts_per_cpu_s_median": round(median(per_cpu_s)),
        "verdicts_per_cpu_s_min": round(min(per_cpu_s)),
        "verdicts_per_s_median": round(median(per_s)),
        "as_expected_percent": round(100 * expected / (count * REPEATS), 2),
    }


def _hostile(count: int, seed: int) -> dict:
    """Every output by every grader."""
    slowest_s, slowest_kind, raised, timed_out, correct = 0.0, "", 0, 0, 0
    held_mib = peak_mib()
    with tempfile.TemporaryDirectory() as folder, Watch(descendants) as watch:
        canary = Path(folder) / "canary"
        began = time.perf_counter()
        for index, (kind, text) in enumerate(hostile_outputs(count, seed, canary)):
            for grader in GRADERS:
                gold = GOLDS[grader][index % len(GOLDS[grader])]
                started = time.perf_counter()
                try:
                    verdict = grade(text, gold, grader, LABELS)
                except Exception:
                    raised += 1
                    continue
                took_s = time.perf_counter() - started
                if took_s > slowest_s:
                    slowest_s, slowest_kind = took_s, kind
                timed_out += verdict.rule.endswith("timeout")
                correct += verdict.correct and grader == "math"
        seconds = time.perf_counter() - began
        touched = canary.exists()
    return {
        "hostile_outputs": count,
        "kinds": len(KINDS),
        "raised": raised,
        "timed_out": timed_out,
        "credited_by_math": correct,
        "slowest_s": round(slowest_s, 2),
        "slowest_kind": slowest_kind,
        "seconds": round(seconds, 1),
        "grown_mib": round(peak_mib() - held_mib),
        "peak_mib": round(peak_mib()),
        "peak_worker_mib": round(watch.peak_mib),
        "workers": len(watch.seen),
        "canary_touched": touched,
    }


def cpu_s() -> float:
    """CPU seconds so far of this process and all it has started, whether they have ended or not."""
    times = os.times()
    ticks = sum(sum(map(int, _stat(pid)[11:15])) for pid in descendants())
    return time.process_time() + times.children_user + times.children_system + ticks / os.sysconf("SC_CLK_TCK")


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


def peak_mib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def descendants(pid: int | str = "self") -> Iterator[int]:
    """Process ids below `pid` that still run."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(task).split():
            yield int(child)
            yield from descendants(int(child))


def _peak_mib(pid: int) -> float:
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _stat(pid: int) -> list[str]:
    """Fields from the state on: the command's name before it may hold spaces and brackets."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _read(path: Path) -> str:
    """A process may end between two reads; it is nothing then."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
