"""How many replicas a pool should have: a state machine that owns no clock, no actor and no row.

Grow where the rows do not fit those that are there and the work that is left pays for another start: the new replica
would then work at least as long as it loads. Release what has not been needed for as long as a start takes, since it
would otherwise be started again for the price of having waited; and in the tail, where so few traces are left that it
cannot be needed again, after `IDLE_S`. Invariant: `least <= wanted <= most`, and at least one while a row is out.
"""

import math
from dataclasses import dataclass

IDLE_S = 2.0
"""A replica that cannot be needed any more goes after so long: the pause between two rounds is no reason to part."""


@dataclass(frozen=True)
class Demand:
    """What a pool knows of its work at one moment."""

    at_s: float
    rows: int
    """Rows waiting and running."""
    traces: int
    """Traces live or still queued: no more rows than these can be out at the same time."""
    to_come: float
    """Rows that these traces will probably ask for yet, beside `rows`."""
    replicas: int
    """Those that take rows and those that are starting."""
    step_s: float | None
    """Seconds in which a replica answers as many rows as it takes at once; None: not measured yet."""
    start_s: float | None
    """Seconds from asking for a replica until it is loaded; None: not measured yet."""


class Autoscaler:
    def __init__(self, least: int, most: int, seqs: int):
        """`seqs`: rows that a replica takes at once."""
        self._least, self._most, self._seqs = least, most, seqs
        self._needed_s = [-math.inf] * most
        """When there were last rows for the i-th replica."""
        self._possible_s = [-math.inf] * most
        """When there were last traces that could have asked it."""

    def wanted(self, demand: Demand) -> int:
        """Replicas to have now. Call it when rows come in, so that no peak is overlooked, and every second or so."""
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
            # After its start the new one shares what is left, (left_s - start_s) n / (n + 1): that is worth start_s.
            if left_s < demand.start_s * (2 + 1 / n):
                break
            n += 1
            # What it was started for counts as its need, else it would be let go while it loads.
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
