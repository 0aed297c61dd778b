"""How many replicas a pool should have: a state machine that owns no clock, no actor and no row.

A pool grows if its rows do not fit the replicas that it has and the work that is left pays for another start: the new
replica would work at least as long as it loads. A pool releases a replica that was not needed for as long as a start
takes: released earlier, it might be started again for the price of having waited. In the tail so few traces are left
that a replica cannot be needed again; there the pool releases it after `IDLE_S`.

Invariant: `least <= wanted <= most`, and at least one replica is wanted while a row is out.
"""

import math
from dataclasses import dataclass

IDLE_S = 2.0
"""Idle seconds after which a replica that cannot be needed again is released. The pause between two rounds of a group
is shorter."""


@dataclass(frozen=True)
class Demand:
    """The work of a pool at one moment."""

    at_s: float
    rows: int
    """Rows waiting and running."""
    traces: int
    """Traces that are live or queued. No more rows than this can be out at the same time."""
    to_come: float
    """Expected number of rows that these traces will still submit, besides `rows`."""
    replicas: int
    """Replicas that take rows or are starting."""
    step_s: float | None
    """Seconds in which a replica answers as many rows as it takes at once. None: not measured yet."""
    start_s: float | None
    """Seconds from asking for a replica until it is loaded. None: not measured yet."""


class Autoscaler:
    def __init__(self, least: int, most: int, seqs: int):
        """`seqs`: how many rows a replica takes at once."""
        self._least, self._most, self._seqs = least, most, seqs
        self._needed_s = [-math.inf] * most
        """Last time at which there were rows for the i-th replica."""
        self._possible_s = [-math.inf] * most
        """Last time at which there were enough traces to give the i-th replica rows."""

    def wanted(self, demand: Demand) -> int:
        """How many replicas to have now.

        Call this whenever rows come in, so that no peak is missed, and about once a second.
        """
        for i in range(self._most):
            if demand.rows > i * self._seqs:
                self._needed_s[i] = demand.at_s
            if demand.traces > i * self._seqs:
                self._possible_s[i] = demand.at_s
        grown = self._grown(demand)
        return grown if grown > demand.replicas else self._kept(demand)

    def _grown(self, demand: Demand) -> int:
        n = max(demand.replicas, self._least, 1 if demand.rows else 0)
        if demand.step_s is None or demand.start_s is None:
            return n
        while 0 < n < self._most and demand.rows > n * self._seqs:
            left_s = (demand.rows + demand.to_come) * demand.step_s / (n * self._seqs)
            # After its start the new replica works (left_s - start_s) n / (n + 1): that must be at least start_s.
            if left_s < demand.start_s * (2 + 1 / n):
                break
            n += 1
            # The rows that it is started for count as its need. Otherwise it would be released while it loads.
            self._needed_s[n - 1] = demand.at_s
        return n

    def _kept(self, demand: Demand) -> int:
        n = min(demand.replicas, self._most)
        while n > self._least:
            idle_s = demand.at_s - self._needed_s[n - 1]
            tail_s = min(idle_s, demand.at_s - self._possible_s[n - 1])
            if tail_s < IDLE_S and idle_s < max(IDLE_S, demand.start_s or 0.0):
                break
            n -= 1
        return n
