"""What live traces wait for, in trace-seconds: one trace that is live for one second.

Invariant: at any time a live trace either has a row out or waits in the router. So the parts add up to the time from
admission to retirement, summed over all traces. A round costs two additions a part, whatever the number of traces.
"""

import time
from enum import StrEnum

from steer.routing.group import Group


class TimePart(StrEnum):
    """What a trace waits for."""

    OUT = "out"
    """A row of the trace is out: submitted to a pool and not yet applied to the group."""
    DECIDING = "deciding"
    """The group decides: the policy runs and the journal is written."""
    BARRIER = "barrier"
    """The group waits for the answers of other traces."""
    ROUTER = "router"
    """The event loop works for the group, or for other groups first."""


class TraceClock:
    """Adds up the trace-seconds of one group."""

    def __init__(self, totals: dict[str, float], group: Group):
        """`totals`: trace-seconds by `TimePart`, to which those of this group are added."""
        self._totals, self._group = totals, group
        self._since_s = time.monotonic()
        self._out, self._inside = group.out, group.live - group.out

    def lap(self, part: TimePart) -> None:
        """Count the time since the last call: as `part` for traces without a row out, as OUT for the others."""
        now_s = time.monotonic()
        for name, traces in ((TimePart.OUT, self._out), (part, self._inside)):
            self._totals[name] = self._totals.get(name, 0.0) + traces * (now_s - self._since_s)
        self._since_s = now_s
        self._out, self._inside = self._group.out, self._group.live - self._group.out


class LiveTime:
    """Seconds in which any trace was live."""

    def __init__(self):
        self._seconds, self._since_s, self._live = 0.0, time.monotonic(), 0

    def note(self, live: int) -> float:
        """Note that `live` traces are live from now on. Returns the seconds counted so far."""
        now_s = time.monotonic()
        self._seconds += (now_s - self._since_s) * (self._live > 0)
        self._since_s, self._live = now_s, live
        return self._seconds
