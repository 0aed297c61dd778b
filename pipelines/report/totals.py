"""What a run has taken over all its pipelines, restarts and resumes: seconds, replica-seconds, tokens, GPU dollars.

    RUN/uncounted.json   what the pipeline that runs now has taken so far; not there between pipelines

`run.json` holds the totals: `time` (`pipelines.report.time_spent`), the seconds of each cell, and in `engines` what the
routers counted. Invariants: a pipeline's share is added once, when it ends, however it ends. If its process was killed,
the next resume adds what `uncounted.json` says, at most `KEPT_S` seconds before the end.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow.compute as pc

from actors.router.stats import RouterStats
from pipelines.report.printed import dollars
from pipelines.report.summary import cells_with_seconds
from pipelines.report.time_spent import added, spent
from steer.config.run import PoolsConfig
from steer.costs.money import HOUR_S, gpu_hours_usd, gpu_seconds
from steer.events import What
from steer.storage.filesystem import OutputFailed
from steer.storage.run_folder import RunFolder
from steer.traces import PAIR, Role

FILE = "uncounted.json"
KEPT_S = 30.0
"""Seconds between two writes of `uncounted.json`: a kill costs no more than these seconds of the totals."""
BY_ROLE = ("outstanding_s", "busy_s", "replica_s")
"""Counts of the routers that are kept by role."""


class Meter:
    """Counts what one pipeline takes. Called, it reads the routers' counts, remembers them and keeps them in the run's
    folder."""

    def __init__(
        self,
        run: RunFolder,
        cells: Sequence[str],
        read: Callable[[], RouterStats],
        pools: PoolsConfig,
        base: RouterStats,
    ):
        """`read` gives the routers' counts, or raises. `base`: the counts that the totals hold already."""
        self._run, self._cells, self._read, self._pools, self._base = run, cells, read, pools, base
        self._id = uuid.uuid4().hex
        self._before = self.last = read()
        """`last`: the counts that were read last."""
        self._started_s = self._kept_s = time.monotonic()

    def __call__(self) -> RouterStats:
        self.last = self._read()
        if time.monotonic() - self._kept_s >= KEPT_S:
            self._kept_s = time.monotonic()
            with suppress(OutputFailed):  # The commits report a full disk.
                self._run.write_file(FILE, json.dumps(self._taken(0.0)).encode())
        return self.last

    def end(self, grading_s: float = 0.0) -> RouterStats:
        """Add what the pipeline took to `run.json`. Returns the counts that the totals hold now."""
        with suppress(Exception):  # The routers are gone: what they said last counts.
            self.last = self._read()
        _add(self._run, self._taken(grading_s))
        return self.last

    def _taken(self, grading_s: float) -> dict[str, Any]:
        wall_s = time.monotonic() - self._started_s
        return {
            "id": self._id,
            "cells": list(self._cells),
            "wall_s": wall_s,
            "time": spent(self._before, self.last, wall_s, grading_s),
            "engines": counted(self._base, self.last, self._pools),
        }


def counted(before: RouterStats, after: RouterStats, pools: PoolsConfig) -> dict[str, Any]:
    """What the routers counted between two readings, as `engines` of `run.json` holds it."""
    found: dict[str, Any] = {
        name: {
            role.label: seconds - getattr(before, name).get(role, 0.0) for role, seconds in getattr(after, name).items()
        }
        for name in BY_ROLE
    }
    held_s = {Role[label.upper()]: seconds for label, seconds in found["replica_s"].items()}
    for name in ("tokens", "steps"):
        by_role = {role.label: f"{name}_{role.label}" for role in PAIR}
        found[name] = {label: getattr(after, key) - getattr(before, key) for label, key in by_role.items()}
    return {**found, "gpu_s": gpu_seconds(held_s, pools)}


def add_uncounted(run: RunFolder) -> None:
    """Add what a pipeline took whose process was killed. Call this only while no other process writes."""
    data = run.read_file(FILE)
    if data is not None:
        _add(run, json.loads(data))


def gpu_seconds_of(described: Mapping[str, Any]) -> dict[str, float]:
    """GPU-seconds of a run by role, from `run.json`. Earlier versions counted replica-seconds alone."""
    engines = described.get("engines") or {}
    if "gpu_s" in engines:
        return dict(engines["gpu_s"])
    pools = PoolsConfig.model_validate((described.get("config") or {}).get("pools") or {})
    return gpu_seconds({Role[label.upper()]: s for label, s in (engines.get("replica_s") or {}).items()}, pools)


class GpuDollars(NamedTuple):
    """What the GPUs of a run cost, by `usd_per_gpu_hour`."""

    usd: float
    gpu_hours: float
    answers: int
    """Rows of `traces/`, of all cells."""
    right: int

    def text(self) -> str:
        a_right = f", ${dollars(self.usd / self.right)} a right answer" if self.right else ""
        an_answer = f": ${dollars(self.usd / self.answers)} a question{a_right}" if self.answers else ""
        return f"${dollars(self.usd)} for {self.gpu_hours:,.3g} GPU-hours of all replicas{an_answer}"


def gpu_dollars(run: RunFolder, described: Mapping[str, Any]) -> GpuDollars | None:
    """The dollars of a run's GPUs, loading and idling included. None: its pools have no price.

    `described`: `run.json`.
    """
    held_s = gpu_seconds_of(described)
    pools = PoolsConfig.model_validate((described.get("config") or {}).get("pools") or {})
    usd = gpu_hours_usd(held_s, pools)
    if usd is None:
        return None
    correct = run.read_unsorted("traces", columns=["correct"])["correct"]
    return GpuDollars(usd, sum(held_s.values()) / HOUR_S, len(correct), pc.sum(correct).as_py() or 0)


def money_lines(run: RunFolder) -> list[str]:
    """What a run prints about its GPUs' dollars, and about error rows that were asked again; maybe nothing."""
    described = run.describe()
    gpus = gpu_dollars(run, described)
    return [*([f"by GPU-hours: {gpus.text()}"] if gpus else []), *map(retried_line, described.get("retried") or [])]


def retried_line(note: Mapping[str, Any]) -> str:
    """An entry of `retried` in `run.json`."""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in note["kinds"].items())
    tokens = note["tokens_small"] + note["tokens_large"]
    usd = f", ${dollars(note['usd_tokens'])}" if note.get("usd_tokens") else ""
    return (
        f"asked again: {note['traces']:,} error rows ({kinds}); what they had cost is in no row: {tokens:,} tokens, "
        f"{note['flops_full']:.3g} TFLOP in full{usd}"
    )


def _add(run: RunFolder, taken: Mapping[str, Any]) -> None:
    """Add a pipeline's share in one write, unless it is in the totals already."""
    described = run.describe()
    if described.get("counted") != taken["id"]:
        engines = dict(described.get("engines") or {})
        if "replica_s" in engines:
            engines.setdefault("gpu_s", gpu_seconds_of(described))
        run.update(
            cells=cells_with_seconds(run, taken["cells"], taken["wall_s"]),
            time=added(described.get("time") or {}, taken["time"]),
            engines=engines
            | {name: _sum(engines.get(name), more) for name, more in taken["engines"].items()}
            | {"replaced_replicas": run.count_events(What.DIED)},
            counted=taken["id"],
        )
    run.remove_file(FILE)


def _sum(held: Any, more: Any) -> Any:
    if isinstance(more, dict):
        held = held or {}
        return {key: _sum(held.get(key), more.get(key, 0)) for key in dict.fromkeys([*held, *more])}
    return (held or 0) + more
