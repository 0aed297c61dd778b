"""SIGKILLs at random moments of runs with simulated engines, and what they cost.

A run draws its victims from the driver, the router, a replica, the raylet and Ray's head (GCS), none of them twice. A
run that did not survive is gone on with by the same command, `steer run CONFIG --resume DIR`, until it ends. Then it
must hold the rows of a run that nobody killed: none lost, none doubled, and with one group the same answers. Runs of
`preset: stepwise` take turns with the default policy, whose passes come back every `routing.pass_tokens` tokens, here
those of one step. A trace that was writing on (`routing.write_on`) goes on with other noise after a kill, so in such
runs each trace must have its steps in a row, and none twice. The run's folder is a local one, or a bucket of an S3
server that outlives the run's processes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from campaigns.watch import kill_left, marked, titled
from paths import ROOT
from pyarrow.fs import FileSelector

from actors.router.journal import HOLD_S
from pipelines.bench.storage import BUCKET
from steer.storage.filesystem import open_filesystem
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import RUN_FIELDS

KILLS = 20
VICTIMS = {
    "driver": "pipelines.cli run",
    "router": "ray::Router",
    "replica": "ray::SimulatedReplica",
    "raylet": "raylet/raylet",
    "head": "gcs_server",
}
"""A part of each process's command line."""
SURVIVED = ("router", "replica")
"""The run goes on by itself."""
QUESTIONS, STEPS, STEP_S, STEP_TOKENS = 96, 40, 0.25, 10
"""A run of some 25 s, after 8 s of starting."""
STEPWISE: dict[str, Any] = {"name": "steer", "preset": "stepwise"}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stepwise": (STEPWISE, {}),
    "default": ({"name": "steer"}, {}),
    "write-on": ({**STEPWISE, "fit_from": "bank"}, {"barrier": "rolling", "write_on": True}),
}
"""Policy and routing by name."""
WAIT_S = (0.5, 4.0)
"""A kill comes so long after the last one, or after the run has begun to journal."""
MARK = "STEER_KILLS_RUN"
PATIENCE_S = 180.0
POLL_S, S3_POLL_S = 0.05, 0.5
"""Between two looks at a run. The S3 server has one Python for all who ask."""
TIMING = (
    *("seconds", "fit_ms", "routing_seconds", "replica", "cached_tokens", "prompt_tokens", "prefill_small"),
    *RUN_FIELDS.names,
)
REREAD = (*TIMING, "prefill_large", "flops_full")
"""What may differ: times, and what a new replica reads again, which is computed and charged."""


@dataclass
class Tally:
    """What happened to one run."""

    way: str
    groups: int
    killed: list[str] = field(default_factory=list)
    lives: int = 0
    """Processes it took."""
    lost: int = 0
    doubled: int = 0
    changed: int = 0
    """Rows of one group's tables that differ from the undisturbed run's; writing on, traces with a step missing or
    twice."""
    begun_twice: list[int] = field(default_factory=list)
    """Texts begun again after each kill."""
    orphans: int = 0


def most_begun_twice(on_s3: bool = False) -> float:
    """Texts that one kill may have begun again: one a live trace; on S3 also those of the time between two writes of
    the journal."""
    return QUESTIONS * (1 + on_s3 * HOLD_S / STEP_S)


def kill_campaign(
    kills: int = KILLS, seed: int = 0, ways: Sequence[str] = ("stepwise", "default"), on_s3: bool = False
) -> list[dict]:
    """A row a run, and the sum. `ways`: of `WAYS`, which take turns. `on_s3`: in `BUCKET` of the server that the
    environment names; the run that nobody killed is on the local disk.

    Raises RuntimeError if a row was lost or doubled, an answer changed, a process left behind, or more texts begun
    twice by one kill than `most_begun_twice`.
    """
    rng = random.Random(seed)
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        whole: dict[tuple[str, int], RunFolder] = {}
        while sum(len(t.killed) for t in tallies) < kills:
            kind = ways[len(tallies) % len(ways)], 4 if len(tallies) % 4 == 3 else 1
            left = kills - sum(len(t.killed) for t in tallies)
            victims = rng.sample(list(VICTIMS), min(len(VICTIMS), left))
            run = _Run(Path(folder) / f"run-{len(tallies)}", *kind, rng, on_s3)
            tallies.append(run.through(victims))
            if kind not in whole:
                whole[kind] = _undisturbed(Path(folder), *kind)
            run.compare(whole[kind])
    rows = [_row(f"run {number}", [tally]) for number, tally in enumerate(tallies)]
    rows.append(_row("all", tallies))
    bad = {key: rows[-1][key] for key in ("lost", "doubled", "changed", "orphans") if rows[-1][key]}
    if bad or rows[-1]["begun_twice_most"] > most_begun_twice(on_s3):
        raise RuntimeError(f"the campaign failed: {rows}")
    return rows


def _row(name: str, tallies: list[Tally]) -> dict:
    killed = Counter(victim for tally in tallies for victim in tally.killed)
    twice = [count for tally in tallies for count in tally.begun_twice]
    return {
        "run": name,
        "way": "/".join(sorted({tally.way for tally in tallies})),
        "groups": "/".join(str(groups) for groups in sorted({tally.groups for tally in tallies})),
        "kills": sum(killed.values()),
        **{victim: killed[victim] for victim in VICTIMS},
        "processes": sum(tally.lives for tally in tallies),
        "rows": QUESTIONS * len(tallies),
        "lost": sum(tally.lost for tally in tallies),
        "doubled": sum(tally.doubled for tally in tallies),
        "changed": sum(tally.changed for tally in tallies),
        "begun_twice_most": max(twice, default=0),
        "begun_twice_mean": round(sum(twice) / max(len(twice), 1), 1),
        "orphans": sum(tally.orphans for tally in tallies),
    }


def _undisturbed(folder: Path, way: str, groups: int) -> RunFolder:
    run = _Run(folder / f"whole-{way}-{groups}", way, groups, random.Random(0))
    run.through([])
    return RunFolder.open(run.out)


class _Run:
    """One run, from its first process to the one that ends it."""

    def __init__(self, folder: Path, way: str, groups: int, rng: random.Random, on_s3: bool = False):
        folder.mkdir()
        self._config, self._log = folder / "run.yaml", folder / "begun"
        self.out = f"s3://{BUCKET}/{folder.name}" if on_s3 else str(folder / "out")
        self._poll_s = S3_POLL_S if on_s3 else POLL_S
        self._rng, self.tally = rng, Tally(way, groups)
        policy, routing = WAYS[way]
        engine = {"steps": STEPS, "tokens": STEP_TOKENS, "exact": True, "step_s": STEP_S, "log": str(self._log)}
        model = {"parameters": 1e6, "engine": engine}
        config = {
            "benchmark": {"limit": QUESTIONS, "groups": groups},
            "pair": {name: {"path": f"simulated:{name}", **model} for name in ("small", "large")},
            "policy": policy,
            "routing": {"pass_tokens": STEP_TOKENS, **routing},
        }
        self._config.write_text(yaml.safe_dump(config))
        self._mark = uuid.uuid4().hex
        self._segment_at = 0
        """Lines of the log at the last kill."""

    def through(self, victims: list[str]) -> Tally:
        """Until the run has ended well. Where it does so before all `victims` were killed, it was quicker than they."""
        victims, process = list(victims), None
        while True:
            if process is None:
                process, begun = self._start(), self._journaled()
            if victims and self._ended(process, lambda begun=begun: self._journaled() > begun) is None:
                time.sleep(self._rng.uniform(*WAIT_S))
                if self._kill(victims[0]):
                    self.tally.killed.append(victims.pop(0))
                    if self.tally.killed[-1] in SURVIVED:
                        self._close_segment()
                        begun = self._journaled()
                        continue
            code = self._ended(process)
            self._await_none_left()
            self._close_segment()
            if code == 0:
                return self.tally
            if not self.tally.killed:
                raise RuntimeError(f"the run failed by itself, with {code}: {self._said()}")
            process = None

    def compare(self, whole: RunFolder) -> None:
        run = RunFolder.open(self.out)
        ids = Counter(run.read("traces")["trace_id"].to_pylist())
        wanted = whole.read("traces")["trace_id"].to_pylist()
        self.tally.lost = sum(i not in ids for i in wanted)
        self.tally.doubled = sum(ids.values()) - len(ids) + sum(i not in set(wanted) for i in ids)
        if self.tally.way == "write-on":
            self.tally.changed += _broken_traces(run)
        elif self.tally.groups == 1:
            for table in ("traces", "steps", "mixtures"):
                self.tally.changed += len(_rows(run, table) ^ _rows(whole, table))

    # --- processes ----------------------------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen:
        self.tally.lives += 1
        replicas = 1 + (self.tally.lives - 1) % 2 if self.tally.groups > 1 else 1
        pools = [f"--set=pools.{name}.replicas={replicas}" for name in ("small", "large")]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        # A driver that lost its head gives up after a minute; here after seconds.
        environment |= {MARK: self._mark, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
        environment["PYTHONPATH"] = str(ROOT)
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "run", str(self._config), "--resume", self.out, *pools],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=open(self._log.with_suffix(f".{self.tally.lives}"), "w"),
        )

    def _said(self) -> str:
        return self._log.with_suffix(f".{self.tally.lives}").read_text()[-2000:]

    def _kill(self, victim: str) -> bool:
        found = titled(marked(MARK, self._mark), lambda command: VICTIMS[victim] in command)
        if not found:
            return False
        self._rng.choice(found).send_signal(signal.SIGKILL)
        return True

    def _ended(self, process: subprocess.Popen, until=lambda: False) -> int | None:
        """The exit code; None if `until` came first. A process that does neither is a failure of the campaign."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            code = process.poll()
            if code is not None:
                return code
            if until():
                return None
            time.sleep(self._poll_s)
        process.kill()
        raise RuntimeError(f"the run neither went on nor ended within {PATIENCE_S:g} s after {self.tally.killed}")

    def _await_none_left(self) -> None:
        """What a dead driver or head leaves behind ends by itself; what does not is an orphan."""
        self.tally.orphans += kill_left(lambda: marked(MARK, self._mark), 60)

    # --- what it has done ---------------------------------------------------------------------------------------------

    def _journaled(self) -> int:
        files, path, _ = open_filesystem(self.out)
        found = files.get_file_info(FileSelector(f"{path}/journal", recursive=True, allow_not_found=True))
        return sum(info.mtime_ns for info in found if info.is_file and info.base_name.startswith("0"))

    def _close_segment(self) -> None:
        """Count the texts that were begun since the last kill and had been begun before it."""
        lines = self._log.read_text().split() if self._log.exists() else []
        if self._segment_at:
            before = set(lines[: self._segment_at])
            self.tally.begun_twice.append(sum(line in before for line in lines[self._segment_at :]))
        self._segment_at = len(lines)


def _broken_traces(run: RunFolder) -> int:
    """Traces whose kept steps are not each of 0 to the last once."""
    steps = run.read("steps")
    kept: dict[str, list[int]] = {}
    columns = (steps[name].to_pylist() for name in ("trace_id", "step", "accepted"))
    for trace, step, accepted in zip(*columns, strict=True):
        if accepted:
            kept.setdefault(trace, []).append(step)
    return sum(sorted(mine) != list(range(STEPS)) for mine in kept.values()) + QUESTIONS - len(kept)


def _rows(run: RunFolder, table: str) -> set[str]:
    rows = run.read(table)
    kept = rows.drop_columns([name for name in REREAD if name in rows.column_names])
    return {json.dumps(row, sort_keys=True, default=str) for row in kept.to_pylist()}
