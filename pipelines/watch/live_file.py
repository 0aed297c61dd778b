"""`RUN/live.json`: what a run counts now, for `steer top` in another shell or on another machine.

The driver writes it while traces are routed and removes it when the run is finished. Invariant: the run never fails
because of it.
"""

import json
import time
from typing import Any

from actors.router.stats import RouterStats
from steer.storage.run_folder import LIVE_FILE, RunFolder

LOCAL_S = 2.0
"""Seconds between two writes to a file system of this machine."""
ELSEWHERE_S = 10.0
"""Seconds between two writes to any other: an object store charges for each."""

ROUTING, ROUTED, STOPPED = "routing", "routed", "stopped"
"""Values of key `state`: traces are routed; all that were asked for are committed; the driver was stopped or failed."""


class LiveFile:
    def __init__(self, run: RunFolder):
        self.every_s = LOCAL_S if run.is_local else ELSEWHERE_S
        self._run = run
        self._last: tuple[float, RouterStats] | None = None
        """When the file was last written, on the clock of `at_s`, and the counts in it."""

    def write_if_due(self, stats: RouterStats, at_s: float, done: int, total: int, eta_s: float | None) -> None:
        """Write the counts, unless that was done less than `every_s` ago. Raises OutputFailed.

        `at_s`: seconds since the routing began. `done`, `total`: traces since then. `eta_s`: seconds left.
        """
        if self._last is None or at_s - self._last[0] >= 0.9 * self.every_s:  # a tick that comes a little early counts
            self._write(ROUTING, stats, at_s, done, total, eta_s)

    def end(self, state: str, stats: RouterStats, at_s: float, done: int, total: int) -> None:
        """Write the last counts. `state`: ROUTED or STOPPED. Raises OutputFailed."""
        self._write(state, stats, at_s, done, total, None)

    def _write(self, state: str, stats: RouterStats, at_s: float, done: int, total: int, eta_s: float | None) -> None:
        tokens = stats.tokens_small + stats.tokens_large
        before_s, before = self._last or (0.0, stats)
        seconds = max(at_s - before_s, 1e-3)
        values: dict[str, Any] = {
            "state": state,
            "written_s": time.time(),
            "every_s": self.every_s,
            "seconds": at_s,
            "traces": {
                "total": total,
                "live": stats.live,
                "queued": stats.queued,
                "done": done,
                "errors": stats.errors,
            },
            "eta_s": eta_s,
            "tokens_per_s": max(tokens - before.tokens_small - before.tokens_large, 0) / seconds,
            "tokens": {"small": stats.tokens_small, "large": stats.tokens_large},
            "steps": {"small": stats.steps_small, "large": stats.steps_large},
            "prompt_tokens": {role.label: count for role, count in stats.computed.items()},
            "parameters": {role.label: count for role, count in stats.parameters.items()},
            "replicas": {role.label: states for role, states in stats.states.items()},
            "replica_s": {role.label: held_s for role, held_s in stats.replica_s.items()},
            "replaced": stats.replaced,
            "waiting": {role.label: what for role, what in stats.waiting.items()},
            "loop_ratio": min(max(stats.loop_s - before.loop_s, 0.0) / seconds, 1.0),
            "oldest_round_s": stats.oldest_round_s,
            "fit_s": stats.fit_s,
            "journal_s": stats.journal_s,
        }
        self._run.write_file(LIVE_FILE, (json.dumps(values) + "\n").encode())
        self._last = (at_s, stats)


def read_live(run: RunFolder) -> dict[str, Any] | None:
    """What is in the file. None: there is none."""
    data = run.read_file(LIVE_FILE)
    return None if data is None else json.loads(data)
