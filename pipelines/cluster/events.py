"""Tell what happens to the replicas while it happens: a line on standard error, and rows of the table `events/`.

A thread asks the routers. Invariant: the run never waits for it and never fails because of it. What a router had not
told yet when it was lost is lost with it: some two seconds of events.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence

from steer.events import Event, What

ASK_S = 1.0
"""Seconds between two questions to the routers."""
WRITE_S = 5.0
"""Least seconds between two parts of the table."""
NODE_CHARS = 8
"""Characters of a node's id on the terminal. The table has all 56."""

_SAID = {
    What.LOADED: "is loaded",
    What.DIED: "died and is replaced",
    What.LEAVING_DIED: "died while it answered its last rows",
    What.START_DIED: "died before its model was loaded",
    What.GIVEN_UP: "cannot start a replica",
    What.DRAINED: "leaves",
    What.RELEASED: "is released",
    What.GROWN: "grows",
    What.ROUTER_LOST: "was lost with all replicas",
}


def line(event: Event) -> str:
    """`small-0 died and is replaced (node 3f2a91bc): the process was killed`."""
    subject = event.replica or (f"{event.role} pool" if event.role else "a router")
    node = f" (node {event.node[:NODE_CHARS]})" if event.node else ""
    return f"{subject} {_SAID[What(event.what)]}{node}{f': {event.reason}' if event.reason else ''}"


class EventFeed:
    """Context manager that asks, prints and writes until the block ends."""

    def __init__(
        self,
        ask: Callable[[list[int]], list[list[Event]]],
        routers: int,
        write: Callable[[Sequence[Event]], None] | None = None,
    ):
        """`ask`: the events of each router from its number on; none of a router that does not answer. `write` adds
        rows to the table; None: there is no table."""
        self._ask, self._write = ask, write
        self._next = [0] * routers
        self._unwritten: list[Event] = []
        self._wrote_s = -WRITE_S
        self._refused = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def __enter__(self) -> "EventFeed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Tell and write what has happened until now."""
        with self._lock:
            self._take()
            self._commit()

    def _run(self) -> None:
        while not self._stop.wait(ASK_S):
            with self._lock:
                self._take()
                if time.monotonic() - self._wrote_s >= WRITE_S:
                    self._commit()

    def _take(self) -> None:
        try:
            told = self._ask(self._next)
        except Exception:
            return  # whatever stops the routers also stops the pipeline, which reports it
        for number, events in enumerate(told):
            for event in events:
                self._next[number] = event.number + 1
                self._unwritten.append(event)
                print(f"steer: {line(event)}", file=sys.stderr, flush=True)

    def _commit(self) -> None:
        if self._write is None or not self._unwritten:
            return
        try:
            self._write(self._unwritten)
        except Exception as failure:  # kept, and tried again
            if not self._refused:
                print(f"steer: events cannot be written now: {failure}", file=sys.stderr, flush=True)
            self._refused = True
            return
        self._unwritten, self._wrote_s, self._refused = [], time.monotonic(), False
