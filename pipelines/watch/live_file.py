"""`RUN/live.json`: what a run counts now, for `steer top` in another shell or on another machine.

A thread of the driver asks the routers for their counts and writes them, as long as traces are routed. The file is
removed when the run is finished. Invariant: the run never waits for it and never fails because of it.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from actors.router.stats import RouterStats
from steer.storage.run_folder import LIVE_FILE, RunFolder

LOCAL_S = 2.0
"""Seconds between two writes to a file system of this machine."""
ELSEWHERE_S = 10.0
"""Seconds between two writes to any other: an object store charges for each."""

ROUTING, ROUTED, STOPPED = "routing", "routed", "stopped"
"""Values of key `state`: traces are routed; all that were asked for are committed; the driver was stopped or failed."""


class LiveFile:
    """Context manager that writes the file until the block ends, and then how it ended."""

    def __init__(self, run: RunFolder, read: Callable[[], RouterStats]):
        """`read` may raise, because the router is starting or has died. Then nothing is written, and the file ages."""
        self._run, self._read = run, read
        self._every_s = LOCAL_S if run.is_local else ELSEWHERE_S
        self._stop = threading.Event()
        self._began_s, self._done_before = 0.0, 0
        self._last: tuple[float, RouterStats] | None = None
        """Seconds since the block began, and the counts then: those that were last written."""
        self._thread = threading.Thread(target=self._keep_writing, name="live file", daemon=True)

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        with suppress(Exception):  # Without it the counts are those since the router started.
            self._done_before = self._read().done
        self._thread.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._write(STOPPED if failure else ROUTED)

    def _keep_writing(self) -> None:
        while not self._stop.wait(self._every_s):
            self._write(ROUTING)

    def _write(self, state: str) -> None:
        at_s = time.monotonic() - self._began_s
        try:
            stats = self._read()
        except Exception:  # Whatever stops the router also stops the pipeline, which reports it.
            if self._last is None or state == ROUTING:
                return
            stats = self._last[1]
        with suppress(Exception):  # The commits report a full disk.
            values = counted(stats, self._done_before, at_s, self._last) | {"state": state, "every_s": self._every_s}
            self._run.write_file(LIVE_FILE, (json.dumps(values | {"written_s": time.time()}) + "\n").encode())
        self._last = (at_s, stats)


def counted(
    stats: RouterStats, done_before: int, at_s: float, last: tuple[float, RouterStats] | None = None
) -> dict[str, Any]:
    """The counts as JSON values.

    `done_before`: traces that were done when the routing began, since a router may have served other cells before.
    `at_s`: seconds since then. `last`: the earlier `at_s` and counts from which rates are reckoned; None: there are no
    rates yet.
    """
    done, total = stats.done - done_before, max(stats.total - done_before, 0)
    before_s, before = (at_s, stats) if last is None else last
    seconds = max(at_s - before_s, 1e-3)
    tokens = stats.tokens_small + stats.tokens_large - before.tokens_small - before.tokens_large
    return {
        "seconds": at_s,
        "traces": {
            "total": total,
            "live": stats.live,
            "queued": stats.queued,
            "done": done,
            "errors": stats.errors,
        },
        "eta_s": left_s(at_s, done, total),
        "tokens_per_s": max(tokens, 0) / seconds,
        "tokens": {"small": stats.tokens_small, "large": stats.tokens_large},
        "steps": {"small": stats.steps_small, "large": stats.steps_large},
        "prompt_tokens": {role.label: count for role, count in stats.computed.items()},
        "parameters": {role.label: count for role, count in stats.parameters.items()},
        "replicas": {role.label: states for role, states in stats.states.items()},
        "replica_s": {role.label: held_s for role, held_s in stats.replica_s.items()},
        "replaced": stats.replaced,
        "waiting": {role.label: what for role, what in stats.waiting.items()},
        "loop_ratio": max(stats.loop_s - before.loop_s, 0.0) / seconds,
        "oldest_round_s": stats.oldest_round_s,
        "fit_s": stats.fit_s,
        "journal_s": stats.journal_s,
    }


def left_s(at_s: float, done: int, total: int) -> float | None:
    """Seconds left at the mean pace of the `at_s` so far. None: no trace is done, or the total is not known."""
    return at_s * max(total - done, 0) / done if done and total else None


def read_live(run: RunFolder) -> dict[str, Any] | None:
    """What is in the file. None: there is none."""
    data = run.read_file(LIVE_FILE)
    return None if data is None else json.loads(data)
