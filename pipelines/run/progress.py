"""Progress of a run and of its models' start: a live bar on a terminal, otherwise a line every 10 s, whatever happens.

A thread asks the router for its counts. Invariant: the run never waits for it and never fails because of it.
"""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self, TextIO

from actors.router.stats import RouterStats
from pipelines.watch.frame import duration
from pipelines.watch.live_file import left_s

LINE_S = 10.0
"""Seconds between two lines in a log: often enough to see that a run is alive, seldom enough for a run of days."""
BAR_S = 0.5
"""Seconds between two updates of the bar."""
RATE_S = 5.0
"""Seconds over which the bar's tokens a second are counted. Over a shorter time they would flicker."""


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
    """What the replicas that start wait for, by role."""

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
            waiting_text(counts),
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
    """See `left_s`."""
    return left_s(now.at_s, now.done, now.total)


def start_text(counts: RouterStats) -> str:
    """One line while the models start: how many replicas of each pool are loaded, and what the others wait for."""
    waiting = waiting_text(counts)
    loaded = ", ".join(f"{counts.replicas.get(role, 0)} of {role.label}" for role in counts.states)
    return f"the models start; loaded: {loaded or 'none'}{f' · {waiting}' if waiting else ''}"


def waiting_text(counts: RouterStats) -> str:
    return "; ".join(f"{role.label}: {what}" for role, what in counts.waiting.items())


class Display(ABC):
    """Context manager that shows on `stream` what a thread reads of the routers, until the block ends."""

    def __init__(self, read: Callable[[], RouterStats], stream: TextIO = sys.stderr, line_s: float = LINE_S):
        """`read` may raise, because a router is starting or has died. Then the last counts are shown again."""
        self._read, self._stream, self._line_s = read, stream, line_s
        self._stop = threading.Event()
        self._started = 0.0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        watch = self._watch_terminal if self._stream.isatty() else self._watch_log
        self._thread = threading.Thread(target=watch, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    @property
    def _at_s(self) -> float:
        """Seconds since the block began."""
        return time.monotonic() - self._started

    @abstractmethod
    def _next(self, least_s: float) -> tuple[float, int, int | None, str]:
        """(seconds since the block began, traces done, all traces or None, line) now. `least_s`: rates are over at
        least so many seconds."""

    def _watch_log(self) -> None:
        while not self._stop.wait(self._line_s):
            at_s, _, _, text = self._next(0.0)
            print(f"[{duration(at_s)}] {text}", file=self._stream, flush=True)

    def _watch_terminal(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = [BarColumn(bar_width=24), TextColumn("{task.description}")]
        with Bar(*columns, console=Console(file=self._stream), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            while not self._stop.wait(BAR_S):
                _, done, total, text = self._next(RATE_S)
                bar.update(task, completed=done, total=total, description=text)


class Progress(Display):
    """The progress of a pipeline."""

    def __init__(self, read: Callable[[], RouterStats], stream: TextIO = sys.stderr, line_s: float = LINE_S):
        super().__init__(read, stream, line_s)
        self._base = self._last = self._before = ProgressSnapshot(0.0)

    def __enter__(self) -> Self:
        with suppress(Exception):  # As in `_next`. Without a base the counts are those since the router started.
            self._base = ProgressSnapshot.of(self._read(), 0.0)
        return super().__enter__()

    def _next(self, least_s: float) -> tuple[float, int, int | None, str]:
        at_s = self._at_s
        try:
            now = ProgressSnapshot.of(self._read(), at_s).since(self._base)
        except Exception:
            # Whatever stops the router also stops the pipeline, which reports it.
            now = self._last._replace(at_s=at_s)
        text, self._last = progress_text(now, self._before), now
        if at_s - self._before.at_s >= least_s:
            self._before = now
        return at_s, now.done, now.total or None, text


class StartProgress(Display):
    """The start of the models: what their replicas wait for."""

    def _next(self, least_s: float) -> tuple[float, int, int | None, str]:
        try:
            text = start_text(self._read())
        except Exception:
            text = "the routers start"
        return self._at_s, 0, None, text
