"""What the live traces of the router's groups were waiting for, in trace-seconds: one trace, live for one second.

Invariant: at any time a live trace either has a row out or waits in the router, so the parts add up to the seconds of
all traces from being admitted to being retired. Costs two additions a part and round, whatever the number of traces.
"""

import time
from enum import StrEnum

from steer.routing.group import Group


class TimePart(StrEnum):
    OUT = "out"
    """A row of it is out: submitted to a pool and not yet taken in."""
    DECIDING = "deciding"
    """Its group decides: the policy, and the journal."""
    BARRIER = "barrier"
    """Its group waits for answers of other traces."""
    ROUTER = "router"
    """The event loop works for its group, or for others first."""


class TraceClock:
    """The time of one group, told part by part as it passes."""

    def __init__(self, totals: dict[str, float], group: Group):
        """`totals`: trace-seconds by `Part`, to which those of this group are added."""
        self._totals, self._group = totals, group
        self._since_s = time.monotonic()
        self._out, self._held = group.out, group.live - group.out

    def lap(self, part: TimePart) -> None:
        """What has passed since the last call was `part` for the traces without a row out."""
        now_s = time.monotonic()
        for name, traces in ((TimePart.OUT, self._out), (part, self._held)):
            self._totals[name] = self._totals.get(name, 0.0) + traces * (now_s - self._since_s)
        self._since_s = now_s
        self._out, self._held = self._group.out, self._group.live - self._group.out


class LiveTime:
    """Seconds in which any trace was live."""

    def __init__(self):
        self._seconds, self._since_s, self._live = 0.0, time.monotonic(), 0

    def note(self, live: int) -> float:
        """So many traces are live from now on; returns the seconds until now."""
        now_s = time.monotonic()
        self._seconds += (now_s - self._since_s) * (self._live > 0)
        self._since_s, self._live = now_s, live
        return self._seconds
