"""Where a run's time goes: three ways of looking at the same wall time.

- The seconds of an engine pool: of each replica, from when it gets its place on a node. Its parts are writing, scoring,
  idle with rows on their way to it, idle, and without any live trace. They add up.
- The seconds of the traces: of each, from being admitted to being retired. The parts are in an engine, on the way, and
  waiting. They add up.
- The seconds of what works beside the engines. They overlap with the engines and with each other.

`run.json` holds the seconds (`time`), added up over the pipelines of a run. Shares are computed when they are shown.
"""

from collections.abc import Iterator
from typing import NamedTuple

from actors.router.stats import RouterStats
from actors.router.trace_time import TimePart
from steer.traces import Role

Spent = dict[str, dict[str, float]]
"""Seconds by whole and part. The whole `wall` has the one part `wall`."""

TRACES, BESIDE, WALL = "traces", "beside", "wall"
ENGINE_PARTS = {
    "writing": "rows in the engine that write; its busy seconds are shared among its rows by the time each was there",
    "scoring": "rows in the engine that write nothing to keep: scores of the other model's steps, probes, signals",
    "idle_waiting": "no row in the engine, but rows submitted to its pool: on their way, or all at another replica",
    "idle": "no row submitted: the live traces are with the other model, at the barrier, or being decided on",
    "no_trace": "no trace is live: the pipeline starts, or commits its last rows",
}
TRACE_PARTS = {
    "small_writes": "from reaching the small model's engine to its answer, waiting for a slot in the batch included",
    "large_writes": "the same of the large model's",
    "scoring": "the same for scores, probes and signals, of every engine",
    "on_the_way": "a row of it is out but in no engine: Ray's messages, a pool's credits, an answer not yet sent",
    "deciding": "its group's policy decides (fits included), and the journal is written",
    "barrier": "it is ready, and its group waits for answers of other traces",
    "router": "it is ready, and the router's event loop is busy with it or with other groups",
}
BESIDE_PARTS = {
    "router": "CPU of the router's event loop: dispatching, taking answers in, Ray's messages as Python sees them",
    "policies": "policies (fits included), in threads of the router; several groups' may overlap",
    "journal": "writing the journal of live traces, in these threads too",
    "grading": "grading, in Ray Data's tasks; several may overlap",
}


class Line(NamedTuple):
    """One part of a whole."""

    of: str
    """The whole: `small engines`, `traces`, `beside`."""
    part: str
    seconds: float
    share: float
    """Of the whole; for what is beside, of the wall time."""
    meaning: str


def spent(before: RouterStats, after: RouterStats, wall_s: float, grading_s: float = 0.0) -> Spent:
    """What one pipeline took, between two readings of the router's counts."""
    roles = after.busy_s
    row_s = {key: seconds - before.row_s.get(key, 0.0) for key, seconds in after.row_s.items()}
    engines = {role.label: _engine(before, after, role, wall_s, row_s) for role in roles}
    passed = {part: after.trace_s.get(part, 0.0) - before.trace_s.get(part, 0.0) for part in TimePart}
    small, large = (row_s.get((role, True), 0.0) for role in (Role.SMALL, Role.LARGE))
    scoring = sum(seconds for (_, wrote), seconds in row_s.items() if not wrote)
    traces = {
        "small_writes": small,
        "large_writes": large,
        "scoring": scoring,
        # If a replica died, its rows were asked again: they were out for longer than the engines counted.
        "on_the_way": max(passed[TimePart.OUT] - small - large - scoring, 0.0),
        "deciding": passed[TimePart.DECIDING],
        "barrier": passed[TimePart.BARRIER],
        "router": passed[TimePart.ROUTER],
    }
    beside = {
        "router": after.loop_s - before.loop_s,
        "policies": after.fit_s - before.fit_s,
        "journal": after.journal_s - before.journal_s,
        "grading": grading_s,
    }
    return {WALL: {WALL: wall_s}, **engines, TRACES: traces, BESIDE: beside}


def _engine(before: RouterStats, after: RouterStats, role: Role, wall_s: float, row_s: dict) -> dict[str, float]:
    busy_s = after.busy_s[role] - before.busy_s.get(role, 0.0)
    outstanding_s = after.outstanding_s[role] - before.outstanding_s.get(role, 0.0)
    held_s = after.replica_s[role] - before.replica_s.get(role, 0.0)
    wrote, scored = (row_s.get((role, kind), 0.0) for kind in (True, False))
    scoring = busy_s * scored / (wrote + scored) if scored else 0.0
    wanted = (after.live_s - before.live_s) / wall_s if wall_s else 0.0
    idle = max(held_s * min(wanted, 1.0) - busy_s, 0.0)
    # While rows are out, for `outstanding_s` of the wall time, every replica might be busy.
    waiting = min(max(outstanding_s * held_s / wall_s - busy_s, 0.0), idle) if wall_s else 0.0
    return {
        "writing": busy_s - scoring,
        "scoring": scoring,
        "idle_waiting": waiting,
        "idle": idle - waiting,
        "no_trace": max(held_s - busy_s - idle, 0.0),
    }


def added(held: Spent, found: Spent) -> Spent:
    """The seconds of two pipelines together."""
    both = {}
    for whole in dict.fromkeys([*held, *found]):
        parts = dict.fromkeys([*held.get(whole, {}), *found.get(whole, {})])
        both[whole] = {part: held.get(whole, {}).get(part, 0.0) + found.get(whole, {}).get(part, 0.0) for part in parts}
    return both


def lines(held: Spent) -> Iterator[Line]:
    """Every part with its share. Wholes of no seconds are left out."""
    wall_s = held[WALL][WALL]
    for whole, parts in held.items():
        of = wall_s if whole == BESIDE else sum(parts.values())
        if whole == WALL or not of:
            continue
        meanings = {TRACES: TRACE_PARTS, BESIDE: BESIDE_PARTS}.get(whole, ENGINE_PARTS)
        name = whole if whole in (TRACES, BESIDE) else f"{whole} engines"
        for part, seconds in parts.items():
            yield Line(name, part.replace("_", " "), seconds, seconds / of, meanings.get(part, ""))


def table(held: Spent) -> str:
    """What a run prints when it ends: a line a whole. Parts below half a percent are left out."""
    by_whole: dict[str, list[Line]] = {}
    for line in lines(held):
        by_whole.setdefault(line.of, []).append(line)
    width = max(map(len, by_whole), default=0)
    wall_s = held[WALL][WALL]
    text = [f"where the time went: {wall_s:,.1f} s; each line in % of its own whole, beside in % of the wall time"]
    for whole, parts in by_whole.items():
        said = ", ".join(f"{line.part} {100 * line.share:.0f}" for line in parts if line.share >= 0.005)
        text.append(f"  {whole:{width}}  {said or 'less than 0.5'}")
    return "\n".join(text)
