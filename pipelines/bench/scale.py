"""`steer bench scale`: a whole run of very many questions, with engines that answer at once: time, memory and files.

The questions are a jsonl file that the bench writes. The run is `steer run`, a process of its own on a Ray of its own.
It takes the whole way: read the file, cut groups, route, grade, commit, summarise. Memory is sampled from outside.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from steer.storage.schemas import SCHEMAS

QUESTIONS, TEXT_BYTES = 100_000, 2_000
SAMPLE_S = 0.5
"""Seconds between two samples of the processes' memory."""
SETTINGS = (
    *("benchmark.question=q", "benchmark.answer=a", "benchmark.grader=math", "benchmark.split=all"),
    *("pair=simulated", "pools.small.max_rows=4096", "pools.large.max_rows=4096", "pools.small.cpus=0.1"),
    "pools.large.cpus=0.1",
)
ERROR_CHARS = 2000
"""How much of a failed run's stderr is shown."""
_MIB = 2**20
_PARTS = (
    ("ray::Router", "routers"),
    ("ray::SimulatedReplica", "engines"),
    ("ray::MapWorker", "route_stage"),
    ("ray::", "tasks"),
)
"""How the title of a process of Ray's begins, and what it counts as. The first that fits holds."""

ABOUT = """*_mib: most resident memory at one time, without the object store's; tasks_mib: of the largest task
object_store_mib: memory of Ray's object store; spilled_mib: what it wrote to disk, in all
lost, doubled: questions without a row in traces/, and rows too many, in the files RUN/traces/*.parquet"""


def bench_scale(questions: int = QUESTIONS, text_bytes: int = TEXT_BYTES) -> list[dict]:
    """One row. Linux only: memory is read from /proc. Raises RuntimeError if the run fails, or if a question has not
    exactly one row."""
    with tempfile.TemporaryDirectory(prefix="steer-scale-") as folder:
        source, out = Path(folder, "questions.jsonl"), Path(folder, "run")
        write_questions(source, questions, text_bytes)
        source_mib = source.stat().st_size / _MIB
        started = time.monotonic()
        peaks = _run(source, out)
        wall_s = time.monotonic() - started
        row = {
            "questions": questions,
            "text_bytes": text_bytes,
            "source_mib": round(source_mib),
            "wall_s": round(wall_s, 1),
            "questions_per_s": round(questions / wall_s),
            "routed_s": round(sum(cell["seconds"] for cell in json.loads((out / "run.json").read_text())["cells"]), 1),
            **{f"{part}_mib": round(peak / _MIB) for part, peak in peaks.items()},
            **files_written(out),
            **missing_and_doubled(out, questions),
        }
    wrong = {name: row[name] for name in ("lost", "doubled", "without_steps") if row[name]}
    if wrong:
        raise RuntimeError(f"bench scale: {wrong} of {questions} questions: {row}")
    return [row]


def write_questions(path: Path, count: int, text_bytes: int) -> None:
    """Rows with fields q and a. Their texts are letters drawn at random, so that nothing is saved by compression that a
    real text would not save."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz     ", np.uint8)
    drawn = np.random.default_rng(0).choice(letters, text_bytes + 2**20).tobytes().decode()
    places = np.random.default_rng(1).integers(0, 2**20, count).tolist()
    with path.open("w") as file:
        for number, place in enumerate(places):
            text = f"Question {number}: {drawn[place : place + text_bytes]}"
            file.write(json.dumps({"q": text[: max(text_bytes, 24)], "a": "7"}) + "\n")


def _run(source: Path, out: Path) -> dict[str, int]:
    """Run `steer run` on the source. Returns the most bytes at one time, by part of the system."""
    settings = [f"--set={setting}" for setting in (f"benchmark.source={source}", *SETTINGS)]
    command = [sys.executable, "-m", "pipelines.cli", "run", "--out", str(out), *settings]
    peaks: dict[str, int] = defaultdict(int)
    with tempfile.TemporaryFile("w+") as said:
        local = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        process = psutil.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=local)
        try:
            while process.poll() is None:
                for part, size in _sampled(process).items():
                    peaks[part] = max(peaks[part], size)
                time.sleep(SAMPLE_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}:\n{said.read()[-ERROR_CHARS:]}")
    return dict(peaks)


def _sampled(driver: psutil.Process) -> dict[str, int]:
    """Bytes that each part has now."""
    now: Counter[str] = Counter(driver=_resident(driver.pid))
    for process, title in _children(driver):
        if title.split(" ")[0].endswith("/raylet"):
            now["object_store"] += _object_store(process.pid)
            now["spilled"] += _spilled(title)
        part = next((part for begin, part in _PARTS if title.startswith(begin)), None)
        if part == "tasks":
            now[part] = max(now[part], _resident(process.pid))
        elif part:
            now[part] += _resident(process.pid)
    return now


def _children(driver: psutil.Process) -> Iterator[tuple[psutil.Process, str]]:
    try:
        found = driver.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for process in found:
        try:
            yield process, " ".join(process.cmdline())
        except psutil.Error:  # It has ended.
            continue


def _resident(pid: int) -> int:
    """Resident memory of a process, without what it shares with the object store; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(1024 * int(kib) for kib in re.findall(r"^Rss(?:Anon|File):\s+(\d+) kB", status, re.MULTILINE))


def _object_store(raylet: int) -> int:
    """Memory that the object store of a raylet has touched: its pages are a file that has no name any more."""
    total = 0
    for file in Path(f"/proc/{raylet}/fd").iterdir():
        try:
            if "plasma" in os.readlink(file):
                total += 512 * file.stat().st_blocks
        except OSError:  # It was closed meanwhile.
            continue
    return total


def _spilled(raylet: str) -> int:
    """Bytes in the folders to which a raylet spills. `raylet`: its command line."""
    session = re.search(r"--session[-_]dir=(\S+)", raylet)
    folders = Path(session[1]).glob("ray_spilled_objects*") if session else ()
    total = 0
    for file in (file for folder in folders for file in folder.rglob("*")):
        try:
            total += file.stat().st_size
        except OSError:  # It was deleted meanwhile.
            continue
    return total


def files_written(run: Path) -> dict[str, str | int]:
    """By table: how many files the run has, and the MiB of all and of the largest; and the files of all tables."""
    found = {table: [file.stat().st_size for file in (run / table).iterdir()] for table in ("questions", *SCHEMAS)}
    told = {
        f"{table}_files": f"{len(sizes)} ({sum(sizes) / _MIB:.0f} MiB, largest {max(sizes) / _MIB:.0f})"
        for table, sizes in found.items()
    }
    return {**told, "files": sum(map(len, found.values()))}


def missing_and_doubled(run: Path, questions: int) -> dict[str, int]:
    """Counts of `lost` and `doubled` questions, and of traces `without_steps`, as a reader of the files finds them."""
    traces, steps = _trace_ids(run, "traces"), pc.unique(_trace_ids(run, "steps"))
    distinct = pc.unique(traces)
    stepless = len(distinct) - pc.sum(pc.is_in(distinct, value_set=steps)).as_py()
    return {"lost": questions - len(distinct), "doubled": len(traces) - len(distinct), "without_steps": stepless}


def _trace_ids(run: Path, table: str) -> pa.ChunkedArray:
    parts = sorted(str(part) for part in (run / table).glob("*.parquet"))
    return pads.dataset(parts, SCHEMAS[table], format="parquet").to_table(columns=["trace_id"])["trace_id"]
