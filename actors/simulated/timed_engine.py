"""How long an engine with continuous batching takes for its rows, by a formula. The caller holds the clock.

The formula is a lower bound, not a measurement. A decoding step reads the weights and the rows' KV cache once from the
GPU's memory, and computes 2 FLOPs for each weight and row; it takes as long as the slower of the two. A prompt token
takes 2 FLOPs for each weight. A real engine takes longer: kernels reach only a part of the GPU's peak, and sampling and
scheduling are left out. So a loop that keeps this engine busy has more time to spare with a real one.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Hashable
from typing import NamedTuple


class Speed(NamedTuple):
    """What the time follows from: a model and the GPU that it runs on."""

    weights_bytes: float
    cache_bytes_token: float
    """KV cache of one token of context."""
    flops_token: float
    """FLOPs of one token: 2 for each of the model's parameters."""
    bytes_s: float
    """Memory bandwidth of the GPU, bytes a second."""
    flops_s: float
    """Dense peak of the GPU in the weights' number format, FLOPs a second."""

    def decode_s(self, rows: int, context_tokens: float) -> float:
        """Seconds in which each of `rows` rows writes one token. `context_tokens`: context of all of them together."""
        read_s = (self.weights_bytes + self.cache_bytes_token * context_tokens) / self.bytes_s
        return max(read_s, rows * self.flops_token / self.flops_s)

    def prefill_s(self, tokens: int) -> float:
        """Seconds in which so many prompt tokens are computed."""
        return tokens * self.flops_token / self.flops_s


class _Running(NamedTuple):
    ends_at: float
    """When the row is done, in decoding steps since the engine started."""
    number: int
    """Order of arrival in a slot; decides between rows that are done at the same step."""
    row: Hashable
    context_tokens: float
    began_at: float
    """When its part began, in decoding steps since the engine started."""
    further: tuple[int, ...]
    """Tokens of the parts that follow."""


class _Waiting(NamedTuple):
    row: Hashable
    prefill_tokens: int
    parts: tuple[int, ...]
    context_tokens: float


class TimedEngine:
    """Rows in slots. It owns no clock: `add` and `advance` are told the time, in seconds.

    Rows wait for one of `slots` in the order they came. A row that gets a slot is prefilled first, and nobody decodes
    meanwhile. Then every decoding step writes one token of each running row.
    """

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

    def add(self, at_s: float, row: Hashable, prefill_tokens: int, parts: tuple[int, ...], context_tokens: int) -> None:
        """Add a row that writes `parts` tokens, each part at least 1, after `context_tokens`, of which `prefill_tokens`
        must be computed. `at_s`: the time now. The engine must have been advanced to it."""
        if not len(self):
            self._now_s = max(self._now_s, at_s)
        # A row's context grows while it writes: this is its mean.
        self._waiting.append(_Waiting(row, prefill_tokens, parts, context_tokens + sum(parts) / 2))
        self._fill()

    def advance(self, to_s: float) -> list[Hashable]:
        """Let the time pass until `to_s`. Returns the rows of which a part is done by then, in that order. A row keeps
        its slot until its last part is done."""
        done = []
        while self._running and self.next_s() <= to_s:
            self._now_s, self._prefill_left_s = self.next_s(), 0.0
            self._steps = self._running[0].ends_at
            while self._running and self._running[0].ends_at <= self._steps:
                ended = heapq.heappop(self._running)
                done.append(ended.row)
                if ended.further:
                    tokens, *further = ended.further
                    at = ended.ends_at
                    part = ended._replace(ends_at=at + tokens, began_at=at, further=tuple(further))
                    heapq.heappush(self._running, part)
                else:
                    self._context_tokens -= ended.context_tokens
            self._fill()
        passed_s = max(to_s - self._now_s, 0.0)
        prefilled_s = min(self._prefill_left_s, passed_s)
        self._prefill_left_s -= prefilled_s
        if self._running:
            self._steps += (passed_s - prefilled_s) / self._decode_s()
        self._now_s += passed_s
        return done

    def next_s(self) -> float:
        """When the next row is done, if no row is added before. Infinity if there are no rows."""
        if not self._running:
            return math.inf
        left = self._running[0].ends_at - self._steps
        return self._now_s + self._prefill_left_s + left * self._decode_s()

    def cut(self, row: Hashable) -> int:
        """Forget a row. Returns how many tokens it has written since its last part was done. The engine must have been
        advanced to the time now."""
        written = sum(math.ceil(self._steps - r.began_at) for r in self._running if r.row is row)
        self._running = [r for r in self._running if r.row is not row]
        heapq.heapify(self._running)
        self._waiting = deque(w for w in self._waiting if w.row is not row)
        self._context_tokens = sum(r.context_tokens for r in self._running)
        self._fill()
        return written

    def _decode_s(self) -> float:
        return self._speed.decode_s(len(self._running), self._context_tokens)

    def _fill(self) -> None:
        """Give waiting rows the free slots."""
        while self._waiting and len(self._running) < self._slots:
            row, prefill_tokens, (tokens, *further), context_tokens = self._waiting.popleft()
            self._prefill_left_s += self._speed.prefill_s(prefill_tokens)
            self._context_tokens += context_tokens
            at, number = self._steps, next(self._numbers)
            heapq.heappush(self._running, _Running(at + tokens, number, row, context_tokens, at, tuple(further)))
