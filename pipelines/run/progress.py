"""Progress of a run: a live bar on a terminal, otherwise a line every 10 s, also while no trace finishes.

A thread asks the router for its counts. Invariant: the run never waits for it and never fails because of it.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TextIO

from actors.router.stats import RouterStats
from pipelines.watch.frame import duration
from pipelines.watch.live_file import ROUTED, STOPPED, LiveFile

LINE_S = 10.0
"""Seconds between two lines in a log: often enough to see that a run is alive, seldom enough for a run of days."""
BAR_S = 0.5
"""Seconds between two updates of the bar."""


class ProgressSnapshot(NamedTuple):
    """Counts at one moment, in seconds since the start."""

    at_s: float
    total: int = 0
    live: int = 0
    queued: int = 0
    done: int = 0
    tokens: int = 0
    steps_small: int = 0
    steps_large: int = 0
    waiting: str = ""
    """What the replicas without a node wait for, by role."""

    @classmethod
    def of(cls, counts: RouterStats, at_s: float) -> "ProgressSnapshot":
        return cls(
            at_s,
            counts.total,
            counts.live,
            counts.queued,
            counts.done,
            counts.tokens_small + counts.tokens_large,
            counts.steps_small,
            counts.steps_large,
            "; ".join(f"{role.label}: {what}" for role, what in counts.waiting.items()),
        )

    def since(self, base: "ProgressSnapshot") -> "ProgressSnapshot":
        """The counts since `base`, which the router had when this pipeline began: it may have served another before."""
        return self._replace(
            total=max(self.total - base.done, 0),
            done=self.done - base.done,
            tokens=self.tokens - base.tokens,
            steps_small=self.steps_small - base.steps_small,
            steps_large=self.steps_large - base.steps_large,
        )


def progress_text(now: ProgressSnapshot, before: ProgressSnapshot) -> str:
    """One line: traces done of the total, live and queued, tokens a second since `before`, share of large steps so far,
    time left, and what the pools wait for."""
    seconds = now.at_s - before.at_s
    rate = max(now.tokens - before.tokens, 0) / seconds if seconds > 0 else 0.0
    steps = now.steps_small + now.steps_large
    large = f"{100 * now.steps_large / steps:.0f} % large steps" if steps else "no step yet"
    total = f"/{now.total:,}" if now.total else ""
    return (
        f"done {now.done:,}{total} · live {now.live:,} · queued {now.queued:,} · {rate:,.0f} tokens/s · {large} · "
        f"ETA {duration(eta_s(now))}{f' · {now.waiting}' if now.waiting else ''}"
    )


def eta_s(now: ProgressSnapshot) -> float | None:
    """Seconds left at the mean pace so far. None: no trace is done, or the total is not known."""
    if not now.done or not now.total:
        return None
    return now.at_s * max(now.total - now.done, 0) / now.done


class Progress:
    """Context manager that shows the run's progress on `stream` until the block ends."""

    def __init__(
        self,
        read: Callable[[], RouterStats],
        stream: TextIO = sys.stderr,
        line_s: float = LINE_S,
        live: LiveFile | None = None,
    ):
        """`read` may raise, because the router is starting or has died. Then the last counts are shown again. `live`:
        gets the counts, too."""
        self._read, self._stream, self._line_s, self._live = read, stream, line_s, live
        self._counts: RouterStats | None = None
        self._stop = threading.Event()
        self._base = self._last = ProgressSnapshot(0.0)
        self._started = 0.0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Progress":
        self._started = time.monotonic()
        with suppress(Exception):  # As in `_reading`. Without a base the counts are those since the router started.
            self._base = ProgressSnapshot.of(self._read(), 0.0)
        watch = self._watch_terminal if self._stream.isatty() else self._watch_log
        self._thread = threading.Thread(target=watch, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        if self._live is not None:
            last = self._reading()
            with suppress(Exception):  # As in `_reading`.
                if self._counts is not None:
                    self._live.end(STOPPED if failure else ROUTED, self._counts, last.at_s, last.done, last.total)

    def _reading(self) -> ProgressSnapshot:
        at_s = time.monotonic() - self._started
        try:
            self._counts = self._read()
            self._last = now = ProgressSnapshot.of(self._counts, at_s).since(self._base)
            if self._live is not None and not self._stop.is_set():
                self._live.write_if_due(self._counts, at_s, now.done, now.total, eta_s(now))
        except Exception:
            # Whatever stops the router also stops the pipeline, which reports it. So does a full disk.
            self._last = self._last._replace(at_s=at_s)
        return self._last

    def _watch_log(self) -> None:
        before, line_s = ProgressSnapshot(0.0), self._line_s
        while not self._stop.wait(self._line_s if self._live is None else min(self._line_s, self._live.every_s)):
            now = self._reading()
            if now.at_s >= line_s:
                print(f"[{duration(now.at_s)}] {progress_text(now, before)}", file=self._stream, flush=True)
                before, line_s = now, line_s + self._line_s

    def _watch_terminal(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = [BarColumn(bar_width=24), TextColumn("{task.description}")]
        with Bar(*columns, console=Console(file=self._stream), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            before = ProgressSnapshot(0.0)
            while not self._stop.wait(BAR_S):
                now = self._reading()
                bar.update(task, completed=now.done, total=now.total or None, description=progress_text(now, before))
                if now.at_s - before.at_s >= 5:  # Tokens a second over a shorter time would flicker.
                    before = now
