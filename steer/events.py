"""What happens to replicas, one event after the other: for the operator's terminal and the table `events/`.

Invariant: events are numbered in their order, from 0, so whoever asks for those after a number misses none of the last
`KEPT`.
"""

import time
from collections import deque
from enum import StrEnum
from textwrap import shorten
from typing import NamedTuple

KEPT = 10_000
"""Events that are kept until they are asked for. The driver asks every second or two; a large pool that starts makes
some hundred."""
REASON_CHARS = 500
"""Longest reason. Ray's own may hold a stack trace."""


class What(StrEnum):
    """What happened. docs/tables.md describes each for readers of the table."""

    LOADED = "loaded"
    DIED = "died"
    """A replica that took rows is dead, and is replaced."""
    LEAVING_DIED = "leaving_died"
    """A replica that took no new rows died before it had answered those that it had."""
    START_DIED = "start_died"
    """It died, or its node was lost, before its model was loaded."""
    GIVEN_UP = "given_up"
    """The start of a replica is given up: no replica of its pool could do better, or too many died."""
    DRAINED = "drained"
    """It leaves because its node will."""
    RELEASED = "released"
    """It leaves because the pool shrinks."""
    GROWN = "grown"
    """The pool wants more replicas."""
    ROUTER_LOST = "router_lost"
    """A router or its node was lost, and with it all replicas. The driver notes it."""


class Event(NamedTuple):
    number: int
    at_s: float
    """Seconds since 1970."""
    what: What
    role: str
    """Of the pool; "" if it concerns none."""
    replica: str
    """Name of the replica; "" if it concerns none."""
    node: str
    """Ray's id of the node; "" if there is none."""
    reason: str


def event_of(
    what: What, role: str = "", replica: str = "", node: str | None = None, reason: str = "", number: int = 0
) -> Event:
    """The event that happens now."""
    said = shorten(reason.removeprefix(f"{replica} died: "), REASON_CHARS, placeholder=" ...")
    return Event(number, time.time(), what, role, replica, node or "", said)


class EventLog:
    """Events of one router. Not thread-safe: its event loop alone uses it."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._noted = 0

    def note(self, what: What, role: str, replica: str = "", node: str | None = None, reason: str = "") -> None:
        self._events.append(event_of(what, role, replica, node, reason, self._noted))
        self._noted += 1

    def since(self, number: int) -> list[Event]:
        """The events from this number on, of those that are kept."""
        return [event for event in self._events if event.number >= number]
