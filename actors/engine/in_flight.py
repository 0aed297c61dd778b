"""Batches in flight at one replica. The engine's thread puts answers in. The reader of the batch takes them out."""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from steer.messages import Ahead, StepBatch, StepResults
from steer.traces import Finish

NOT_MEASURED = (np.nan, np.nan, np.nan)
"""Scores of a row that has none, in the order of `steer.traces.MEASURES`."""


class Answer(NamedTuple):
    """The answer to one row. `steer.messages.StepResults` documents the same fields as columns."""

    row: int
    """Position of the row in its batch."""
    finish: str
    text: str = ""
    ids: tuple[int, ...] = ()
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    scores: tuple[float, float, float] = NOT_MEASURED
    seconds: float = 0.0
    """From the arrival of the batch to this answer; `InFlightBatch.put` fills it in."""
    error: str = ""
    signal: float = np.nan
    more: tuple[Ahead, ...] = ()
    """An AHEAD pass: the steps after the first."""


class InFlightBatch:
    """One batch in flight. `put` belongs to the engine's thread, `take` to the reader."""

    def __init__(self, batch: StepBatch, on_done: Callable[[], None]):
        """`on_done` is called once, in the engine's thread, when every row is answered."""
        self.batch = batch
        self.arrived_s = time.monotonic()
        self._open = len(batch.key_B)
        self._on_done = on_done
        self._answers: deque[Answer] = deque()

    def put(self, answer: Answer) -> None:
        self._answers.append(answer._replace(seconds=time.monotonic() - self.arrived_s))
        self._open -= 1
        if not self._open:
            self._on_done()

    def take(self) -> list[Answer]:
        """The answers since the last call."""
        return [self._answers.popleft() for _ in range(len(self._answers))]


def in_columns(answers: list[Answer], replica: str, busy_s: float) -> StepResults:
    """The message that carries these answers."""
    row_R, finish_R, text_R, ids_R, tokens_R, prompt_R, cached_R, scores_R, seconds_R, error_R, signal_R, more_R = (
        zip(*answers, strict=True) if answers else ((),) * len(Answer._fields)
    )
    return StepResults(
        row_R=list(row_R),
        finish_R=[str(finish) for finish in finish_R],
        text_R=list(text_R),
        ids_R=list(ids_R),
        tokens_R=list(tokens_R),
        prompt_tokens_R=list(prompt_R),
        cached_tokens_R=list(cached_R),
        scores_R3=np.array(scores_R, np.float64).reshape(-1, 3),
        seconds_R=list(seconds_R),
        signal_R=list(signal_R),
        more_R={r: more for r, more in enumerate(more_R) if more},
        error_R={r: error_R[r] for r, finish in enumerate(finish_R) if finish == Finish.ERROR},
        replica=replica,
        busy_s=busy_s,
    )
