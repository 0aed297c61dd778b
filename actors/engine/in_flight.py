"""The calls that are in flight at one replica. The engine's thread puts answers in, the reader takes messages out.

The replica has one stream of messages for all its calls. A message costs the router a few milliseconds whatever it
holds, so answers to batches with `flush_s` wait until the last message is `flush_s` seconds old, and share one.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import numpy as np

from steer.messages import Ahead, CallAnswers, Ids, StepBatch, StepResults, TokenScores
from steer.traces import SCORES, Finish, Measured

NOT_MEASURED: Measured = (np.nan,) * SCORES
"""Scores of a row that has none."""
NO_IDS: Ids = ()
STREAM_S = 60.0
"""Seconds after which a stream of messages ends and the router asks for another. Ray keeps an entry for every item of a
stream until the stream ends."""


class Answer(NamedTuple):
    """An answer to one row. `steer.messages.StepResults` documents the same fields as columns."""

    row: int
    """Position of the row in its batch."""
    finish: str
    text: str = ""
    ids: Ids = NO_IDS
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    scores: Measured = NOT_MEASURED
    seconds: float = 0.0
    """From the arrival of the batch to this answer; `InFlightBatch.put` fills it in unless it is given."""
    error: str = ""
    signal: float = np.nan
    more: tuple[Ahead, ...] = ()
    """An AHEAD pass: the steps after the first."""
    open: bool = False
    """The row stays open: further answers to it follow."""
    token_scores: TokenScores = None


class InFlightBatch:
    """One call. `put` belongs to the engine's thread, `take` to the reader."""

    def __init__(self, call: int, batch: StepBatch, ready: Callable[["InFlightBatch"], None]):
        """`ready` is called in the engine's thread when there is something to take."""
        self.call, self.batch = call, batch
        self.arrived_s = time.monotonic()
        self.flushes = batch.flush_s is not None
        self._open = len(batch.key_B)
        self._ready = ready
        self._answers: deque[Answer] = deque()

    @property
    def done(self) -> bool:
        """Whether every row is answered to its end."""
        return self._open == 0

    def put(self, answer: Answer) -> None:
        seconds = answer.seconds or time.monotonic() - self.arrived_s
        self._answers.append(answer._replace(seconds=seconds))
        self._open -= not answer.open
        if self.flushes or not self._open:
            self._ready(self)

    def take(self) -> list[Answer]:
        """The answers since the last call."""
        return [self._answers.popleft() for _ in range(len(self._answers))]


class Outbox:
    """The calls in flight of one replica, and the stream of messages about them."""

    def __init__(self) -> None:
        self._calls: dict[int, InFlightBatch] = {}
        self._ready: deque[InFlightBatch] = deque()
        """Calls with something to take, some of them several times."""
        self._flush_s = 0.0
        self._sent_s = -math.inf
        self._reader: tuple[asyncio.AbstractEventLoop, asyncio.Event, asyncio.Event] | None = None
        """Of the stream that is read: its loop, and the events `something is ready` and `it is urgent`."""

    def open(self, call: int, batch: StepBatch) -> InFlightBatch:
        """Note a new call. An empty batch is answered by an empty message."""
        if batch.flush_s is not None:
            self._flush_s = batch.flush_s
        in_flight = self._calls[call] = InFlightBatch(call, batch, self._on_ready)
        if not batch.key_B:
            self._on_ready(in_flight)
        return in_flight

    def find(self, call: int) -> InFlightBatch | None:
        """The call of this number. None: its last answer is on its way."""
        return self._calls.get(call)

    async def messages(
        self, columns: Callable[[list[Answer]], StepResults], stream_s: float = STREAM_S
    ) -> AsyncIterator[list[CallAnswers]]:
        """Yield messages for `stream_s` seconds. One reader at a time; nothing is lost between two."""
        ready, urgent = asyncio.Event(), asyncio.Event()
        self._reader = (asyncio.get_running_loop(), ready, urgent)
        until_s = time.monotonic() + stream_s
        while (left_s := until_s - time.monotonic()) > 0:
            if not self._ready:
                ready.clear()
                if not self._ready:  # nothing came in between
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await ready.wait()
                    continue
            wait_s = self._sent_s + self._flush_s - time.monotonic()
            urgent.clear()
            if wait_s > 0 and all(in_flight.flushes for in_flight in tuple(self._ready)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await urgent.wait()
            message = self._take(columns)
            if message:
                self._sent_s = time.monotonic()
                yield message

    def _take(self, columns: Callable[[list[Answer]], StepResults]) -> list[CallAnswers]:
        taken = {(in_flight := self._ready.popleft()).call: in_flight for _ in range(len(self._ready))}
        message = []
        for call, in_flight in taken.items():
            done = in_flight.done  # before the answers are taken: then the last one is among them
            answers = in_flight.take()
            if done:
                self._calls.pop(call, None)
            if answers or not in_flight.batch.key_B:
                message.append(CallAnswers(call, columns(answers)))
        return message

    def _on_ready(self, in_flight: InFlightBatch) -> None:
        # Appended before the event is looked at, as the reader clears the event before it looks for calls: so one of
        # the two always sees the other.
        self._ready.append(in_flight)
        if self._reader is None:
            return
        loop, ready, urgent = self._reader
        with contextlib.suppress(RuntimeError):  # the reader's event loop is closed: nobody reads any more
            if not ready.is_set():
                loop.call_soon_threadsafe(ready.set)
            if not in_flight.flushes:
                loop.call_soon_threadsafe(urgent.set)


def in_columns(answers: list[Answer], replica: str, busy_s: float) -> StepResults:
    """The answers to one call, as they are sent."""
    columns = list(zip(*answers, strict=True)) if answers else [()] * len(Answer._fields)
    row_R, finish_R, text_R, ids_R, tokens_R, prompt_R, cached_R = columns[:7]
    scores_R, seconds_R, error_R, signal_R, more_R, open_R, tokens_R5 = columns[7:]
    return StepResults(
        row_R=list(row_R),
        finish_R=[str(finish) for finish in finish_R],
        text_R=list(text_R),
        ids_R=list(ids_R),
        tokens_R=list(tokens_R),
        prompt_tokens_R=list(prompt_R),
        cached_tokens_R=list(cached_R),
        scores_RS=np.array(scores_R, np.float64).reshape(-1, SCORES),
        seconds_R=list(seconds_R),
        signal_R=list(signal_R),
        more_R={r: more for r, more in enumerate(more_R) if more},
        error_R={r: error_R[r] for r, finish in enumerate(finish_R) if finish == Finish.ERROR},
        open_R=frozenset(r for r, still in enumerate(open_R) if still),
        token_scores_R={r: of_row for r, of_row in enumerate(tokens_R5) if of_row is not None},
        replica=replica,
        busy_s=busy_s,
    )
