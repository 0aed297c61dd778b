"""`steer bench grading`: verdicts a second and core on ordinary model outputs. `make campaigns` grades hostile ones.

The time of a verdict is that of this process and its symbolic worker together; they take turns on one core. CPU time is
measured as well as wall-clock time, because it varies less on a machine that others use.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from pipelines.bench.ordinary_outputs import ordinary_outputs
from steer.grading import GRADERS, grade

REPEATS = 5
"""Each repeat has outputs of its own, so that it finds no cached result of an earlier one."""

ORDINARY = {"math": 400}
ORDINARY_CHEAP = 4_000
"""Outputs of a repeat: `ORDINARY` by grader, `ORDINARY_CHEAP` for the graders that are not in it. An output of `math`
takes milliseconds, one of the other graders a hundredth of that."""


def bench_grading() -> list[dict]:
    """A row for each grader."""
    return [_ordinary(grader) for grader in GRADERS]


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


def cpu_s() -> float:
    """CPU seconds so far of this process and all processes below it, whether they have ended or not."""
    times = os.times()
    ticks = sum(sum(map(int, _stat(pid)[11:15])) for pid in descendants())
    return time.process_time() + times.children_user + times.children_system + ticks / os.sysconf("SC_CLK_TCK")


def descendants(pid: int | str = "self") -> Iterator[int]:
    """Ids of the processes below `pid` that still run."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(task).split():
            yield int(child)
            yield from descendants(int(child))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on. The command's name before it may hold spaces and brackets."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _read(path: Path) -> str:
    """The file's text; "" if it is gone, because a process may end between two reads."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
