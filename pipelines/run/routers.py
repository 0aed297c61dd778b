"""The routers of a run: each owns a share of every pool's replicas, and the groups that are dealt to it.

One event loop is one CPU core. Where that is not enough, `pools.routers` starts several of them. The rest of the
pipeline need not know their number.

Invariant: which router has a group depends on the run's cells and the number of routers alone. So a run that goes on
finds a group's journal, and two routers never write to the same one.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from actors.router.stats import RouterStats
from pipelines.run.cells import group_name, group_number
from steer.config.policy import PolicyConfig
from steer.events import Event
from steer.messages import EngineInfo
from steer.traces import Role

MEANS = ("outstanding_s", "live_s")
"""Counts of wall time. Every router counts the same seconds, so their mean stands for them all: its product with the
replica-seconds of all routers is what `pipelines.report.time_spent` needs."""
MAXIMA = ("oldest_round_s", "parameters")
"""Numbers of which the largest one stands for all routers."""

Groups = Mapping[tuple[str, str], int]
"""Something counted by (cell, group)."""


@dataclass(frozen=True)
class Routers:
    """Can be pickled, and sent to Ray's tasks."""

    handles: tuple[ActorHandle, ...]
    """Ray handles of `actors.router.router.Router`."""
    first_groups: Mapping[str, int] = field(default_factory=dict)
    """By cell: how many groups the cells before it have. Needed where there are several routers."""

    def of_run(self, cells: Iterable[Mapping[str, Any]]) -> "Routers":
        """The same routers, which deal the groups of these cells. `cells`: entries of `run.json`."""
        return replace(self, first_groups=first_groups(cells))

    # --- what is said to all ----------------------------------------------------------------------------------------

    def start(self, policies: Sequence[PolicyConfig] = ()) -> None:
        """Start all routers at the same time. Raises what `Router.start` raises, as Ray wraps it."""
        ray.get([handle.start.remote(policies) for handle in self.handles])

    def infos(self, timeout_s: float) -> dict[Role, EngineInfo]:
        """What each role's first replica said of itself, of the first router that has one. A role is missing until a
        replica of it was loaded."""
        told = ray.get([handle.infos.remote() for handle in self.handles], timeout=timeout_s)
        return {role: info for infos in reversed(told) for role, info in infos.items()}

    def stats(self, timeout_s: float) -> RouterStats:
        """The counts of all routers together."""
        return summed(ray.get([handle.stats.remote() for handle in self.handles], timeout=timeout_s))

    def events(self, since: Sequence[int], timeout_s: float) -> list[list[Event]]:
        """What happened to the replicas of each router, from a number on. Nothing of a router that does not answer."""
        asked = [handle.events.remote(number) for handle, number in zip(self.handles, since, strict=True)]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=timeout_s)
        return [_events(told) if told in ready else [] for told in asked]

    def expect(self, traces: Groups) -> None:
        """Announce how many traces of each group will come."""
        shares: Counter[int] = Counter()
        for (cell, group), count in traces.items():
            shares[self._number(cell, group)] += count
        for number, count in shares.items():
            self.handles[number].expect.remote(count)

    def close(self, timeout_s: float) -> None:
        """Kill every replica and every router."""
        with suppress(Exception):  # Routers that are gone have nothing left to close.
            closing = [handle.close.remote() for handle in self.handles]
            ray.wait(closing, num_returns=len(closing), timeout=timeout_s)
        for handle in self.handles:
            ray.kill(handle)

    # --- what is said to the router of a group ----------------------------------------------------------------------

    def route(self, questions: pa.Table, job: Any, committed: Collection[str] = ()) -> ray.ObjectRefGenerator:
        """The stream of `Router.route`, from the router of `job.group`."""
        handle = self.handles[self._number(job.cell, job.group)]
        return handle.route.options(num_returns="streaming").remote(questions, job, committed)

    def committed(self, cell: str, group: str, trace_ids: Sequence[str]) -> None:
        """Tell the router of a group that these traces are in the run's tables."""
        self.handles[self._number(cell, group)].committed.remote(group, trace_ids)

    def _number(self, cell: str, group: str) -> int:
        if len(self.handles) == 1:
            return 0
        return dealt_to(self.first_groups[cell], group, len(self.handles))


def _events(told: ray.ObjectRef) -> list[Event]:
    try:
        events: list[Event] = ray.get(told)
    except ray.exceptions.RayError:
        return []
    return events


# --- dealing ----------------------------------------------------------------------------------------------------------


def first_groups(cells: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By cell: how many groups the cells before it have. `cells`: entries of `run.json`, which keeps their order."""
    firsts, groups = {}, 0
    for cell in cells:
        firsts[cell["name"]] = groups
        groups += cell["groups"]
    return firsts


def dealt_to(first_group: int, group: str, routers: int) -> int:
    """The number of the router that has a group. Groups are dealt in turn, through all cells of a run: those that are
    in flight together are neighbours, and so every router has some of them.

    `first_group`: of the group's cell, from `first_groups`.
    """
    return (first_group + group_number(group)) % routers


def router_of_groups(cells: Sequence[Mapping[str, Any]], routers: int) -> dict[tuple[str, str], int]:
    """By cell and group: the number of its router. `cells`: entries of `run.json`."""
    firsts = first_groups(cells)
    names = [(cell["name"], group_name(cell["name"], number)) for cell in cells for number in range(cell["groups"])]
    return {(cell, group): dealt_to(firsts[cell], group, routers) for cell, group in names}


# --- counts -----------------------------------------------------------------------------------------------------------


def summed(counts: Sequence[RouterStats]) -> RouterStats:
    """The counts of several routers as one: sums, also of what is counted by role or part, but means of `MEANS` and
    `MAXIMA`. Texts by role stand beside each other."""
    if len(counts) == 1:
        return counts[0]
    how = {**dict.fromkeys(MEANS, _mean), **dict.fromkeys(MAXIMA, max)}
    values = {each.name: [getattr(count, each.name) for count in counts] for each in fields(RouterStats)}
    return RouterStats(**{name: _joined(held, how.get(name, sum)) for name, held in values.items()})


def _joined(values: Sequence[Any], join: Callable[[Sequence[Any]], Any]) -> Any:
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _joined([value[key] for value in values if key in value], join) for key in keys}
    if isinstance(values[0], str):
        return ", ".join(f"{text} ({times} routers)" if times > 1 else text for text, times in Counter(values).items())
    return join(values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
