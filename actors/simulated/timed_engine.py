"""How long a continuously batching engine takes: rows in slots that decode together, by a formula, on a clock that is
handed in.

The formula is a bound, not a measurement: a decoding step reads the weights and the rows' KV cache once from the
card's memory, or computes 2 FLOPs a weight and row, whichever takes longer; a prompt token costs its 2 FLOPs a weight.
A real engine takes longer (kernels reach a part of the card's peak, sampling and scheduling are left out), so a loop
that keeps such an engine busy has more time with a real one.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple


class Speed(NamedTuple):
    """A model on a card."""

    weights_bytes: float
    cache_bytes_token: float
    """KV cache of one token of context."""
    flops_token: float
    """2N."""
    bytes_s: float
    """Memory bandwidth of the card."""
    flops_s: float
    """Its dense peak in the weights' format."""

    def decode_s(self, rows: int, context_tokens: float) -> float:
        """Seconds for one more token of each of `rows` rows that hold `context_tokens` altogether."""
        read_s = (self.weights_bytes + self.cache_bytes_token * context_tokens) / self.bytes_s
        return max(read_s, rows * self.flops_token / self.flops_s)

    def prefill_s(self, tokens: int) -> float:
        return tokens * self.flops_token / self.flops_s


class _Running(NamedTuple):
    ends_at: float
    """In decoding steps since the engine started."""
    number: int
    row: Hashable
    context_tokens: float


class _Waiting(NamedTuple):
    row: Hashable
    prefill_tokens: int
    tokens: int
    context_tokens: float


class TimedEngine:
    """Rows wait for one of `slots` in the order they came; a row that gets one is prefilled first, while nobody
    decodes; then all running rows write one token each a step. Owns no clock: `advance` is told the time."""

    def __init__(self, speed: Speed, slots: int):
        self._speed, self._slots = speed, slots
        self._now_s = 0.0
        self._steps = 0.0
        self._prefill_left_s = 0.0
        self._running: list[_Running] = []
        self._waiting: deque[_Waiting] = deque()
        self._context_tokens = 0.0
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Rows that are not done."""
        return len(self._running) + len(self._waiting)

    def add(self, at_s: float, row: Hashable, prefill_tokens: int, tokens: int, context_tokens: int) -> None:
        """`tokens` to write, at least 1, after `context_tokens`, of which `prefill_tokens` must be computed. `at_s`:
        now; the engine must have been advanced to it."""
        if not len(self):
            self._now_s = max(self._now_s, at_s)
        # The cache that a row's tokens read grows while it writes: its mean.
        self._waiting.append(_Waiting(row, prefill_tokens, tokens, context_tokens + tokens / 2))
        self._fill()

    def advance(self, to_s: float) -> list[Hashable]:
        """Let the time pass until `to_s`; the rows that are done by then, in order."""
        done = []
        while self._running and self.next_s() <= to_s:
            self._now_s, self._prefill_left_s = self.next_s(), 0.0
            self._steps = self._running[0].ends_at
            while self._running and self._running[0].ends_at <= self._steps:
                ended = heapq.heappop(self._running)
                self._context_tokens -= ended.context_tokens
                done.append(ended.row)
            self._fill()
        passed_s = max(to_s - self._now_s, 0.0)
        prefilled_s = min(self._prefill_left_s, passed_s)
        self._prefill_left_s -= prefilled_s
        if self._running:
            self._steps += (passed_s - prefilled_s) / self._decode_s()
        self._now_s += passed_s
        return done

    def next_s(self) -> float:
        """When the next row is done, if none is added before; infinity without rows."""
        if not self._running:
            return math.inf
        left = self._running[0].ends_at - self._steps
        return self._now_s + self._prefill_left_s + left * self._decode_s()

    def withdraw(self, unwanted: Callable[[Hashable], bool]) -> None:
        """Forget the rows of which `unwanted` is true."""
        self._running = [r for r in self._running if not unwanted(r.row)]
        heapq.heapify(self._running)
        self._waiting = deque(w for w in self._waiting if not unwanted(w.row))
        self._context_tokens = sum(r.context_tokens for r in self._running)
        self._fill()

    def _decode_s(self) -> float:
        return self._speed.decode_s(len(self._running), self._context_tokens)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            row, prefill_tokens, tokens, context_tokens = self._waiting.popleft()
            self._prefill_left_s += self._speed.prefill_s(prefill_tokens)
            self._context_tokens += context_tokens
            running = _Running(self._steps + tokens, next(self._numbers), row, context_tokens)
            heapq.heappush(self._running, running)
