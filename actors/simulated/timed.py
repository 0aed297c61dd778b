"""A replica without a model that takes as long as a real engine would. Its text is made up, its step lengths are given.

It has the same thread, in-flight batches and flushes as `actors/engine/replica.py`. The loop around it can therefore be
measured with long and short steps, on a machine without a GPU. The options are the model entry's `engine` keys. The
entry's `path` is only a name.
"""

import math
import os
import socket
import time
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from actors.engine.in_flight import NOT_MEASURED, Answer, InFlightBatch
from actors.engine.thread import EngineThread
from actors.simulated.instant import simulated_scores
from actors.simulated.timed_engine import Speed, TimedEngine
from steer.config.run import PoolConfig
from steer.messages import WRITING, Ahead, EngineInfo, Op, Prompt
from steer.traces import Finish, Measured

TOKENIZER = "timed"
QUANTUM_S = 0.005
"""Longest sleep of the thread between two looks for new rows. A real engine looks about as often, between two decoding
steps."""
ANSWER = "The answer is \\boxed{7}."


class TimedReplica(EngineThread):
    """Options: `lengths` (for each trace a list of its steps' tokens), `speed` (the fields of `Speed`), `unsure` (share
    of the steps with a low confidence), `prompt_tokens` (of every prompt). The pool's `max_num_seqs` is the number of
    slots."""

    async def download(self) -> None:
        """Nothing: there are no weights, and the path is only a name."""

    def _load(self) -> tuple["TimedLoop", EngineInfo]:
        info = EngineInfo(
            replica=self._name,
            model=self._model.path,
            parameters=self._model.parameters or 1.0,
            tokenizer=TOKENIZER,
            max_model_len=1 << 30,
            measures=self._measures,
            pid=os.getpid(),
            node=socket.gethostname(),
        )
        return TimedLoop(self._pool, **self._model.engine), info


@dataclass(eq=False)
class TimedRow:
    """A row in the engine, and its answers that are still to come."""

    in_flight: InFlightBatch
    key: str
    pieces: list[int]
    answers: deque[Answer]


class TimedLoop:
    """Answers each row when a real engine would be done with it. All methods belong to one thread.

    The hash of the prompt alone decides which trace a question gets: how long its steps are and how sure the model is
    of them. Neither the replica that is asked nor the order of the rows matters.
    """

    def __init__(self, pool: PoolConfig, lengths: list[list[int]], speed: dict, unsure: float, prompt_tokens: int):
        self._engine = TimedEngine(Speed(**speed), pool.max_num_seqs)
        self._lengths, self._unsure, self._prompt_tokens = lengths, unsure, prompt_tokens
        self._question: dict[str, int] = {}
        """Hash of the prompt, by trace key."""
        self._pieces: dict[str, list[int]] = {}
        """Number of tokens of each piece of the prefix that is held here, by trace key."""
        self._going: dict[tuple[int, int], TimedRow] = {}
        """Rows that write on, by call and position in the batch."""

    @property
    def unfinished(self) -> bool:
        return bool(len(self._engine))

    def admit(self, in_flight: InFlightBatch) -> None:
        for key in in_flight.batch.drop:
            self._question.pop(key, None)
            self._pieces.pop(key, None)
        self._answer(self._engine.advance(time.monotonic()))
        for index in range(len(in_flight.batch.key_B)):
            self._open(in_flight, index)

    def advance(self) -> None:
        """Sleep until a row is done, at most for `QUANTUM_S`. Then answer the rows that are done."""
        time.sleep(max(min(self._engine.next_s() - time.monotonic(), QUANTUM_S), 0.0))
        self._answer(self._engine.advance(time.monotonic()))

    def cut(self, in_flight: InFlightBatch, index: int) -> None:
        self._answer(self._engine.advance(time.monotonic()))
        row = self._going.pop((in_flight.call, index), None)
        if row is not None:
            in_flight.put(Answer(index, Finish.CUT, tokens=self._engine.cut(row)))

    def _answer(self, done: list["TimedRow"]) -> None:
        for row in done:
            answer = row.answers.popleft()
            if answer.open and self._pieces.get(row.key) is row.pieces:
                row.pieces.append(len(answer.ids))
            if not answer.open:
                self._going.pop((row.in_flight.call, answer.row), None)
            row.in_flight.put(answer)

    def _open(self, in_flight: InFlightBatch, index: int) -> None:
        batch = in_flight.batch
        key, op, held, new = batch.key_B[index], batch.op_B[index], batch.held_B[index], batch.new_B[index]
        pieces = self._pieces.get(key, [])
        if len(pieces) < held:
            in_flight.put(Answer(index, Finish.MISSING))
            return
        if new and isinstance(new[0], Prompt):
            self._question[key] = _hash(new[0].user)
        pieces = pieces[:held] + [self._prompt_tokens if isinstance(piece, Prompt) else len(piece) for piece in new]
        context, prefill = sum(pieces), sum(pieces[held:])
        question = self._question[key]
        # Count steps by their tokens, because one piece of a pass holds several steps.
        step = bisect_right(list(accumulate(self._lengths[question % len(self._lengths)])), sum(pieces[1:]))
        if op == Op.SCORE:
            answers = [Answer(index, Finish.STEP, scores=self._scores(question, step - 1))]
        elif op == Op.PEEK:
            answers = [Answer(index, Finish.STEP, tokens=1, scores=self._scores(question, step))]
        elif op in WRITING:
            answers = self._write(index, op, question, step, batch.max_tokens_B[index], batch.sampling.most_in_pass(op))
        else:
            answers = [Answer(index, Finish.ERROR, error=f"a timed replica does not answer {Op(op).name}")]
        parts = tuple(max(len(a.ids) + sum(len(ahead.ids) for ahead in a.more), 1) for a in answers)
        answers[0] = answers[0]._replace(prompt_tokens=context, cached_tokens=context - prefill)
        if op in WRITING and op != Op.WRITE_ON:
            pieces += [len(answers[0].ids), *(len(ahead.ids) for ahead in answers[0].more)]
        self._pieces[key] = pieces
        row = TimedRow(in_flight, key, pieces, deque(answers))
        if op == Op.WRITE_ON:
            self._going[in_flight.call, index] = row
        self._engine.add(time.monotonic(), row, prefill, parts, context)

    def _write(
        self, index: int, op: int, question: int, step: int, most_tokens: int, pass_tokens: int | None
    ) -> list[Answer]:
        """What the model writes from this step on: one step or, in a pass, several, as one piece or step by step. A row
        that writes on has an answer for each step."""
        lengths = self._lengths[question % len(self._lengths)]
        left = lengths[step:] or [1]  # past the end: the trace's last step was discarded after its budget was spent
        last = len(left) if op != Op.STEP else 1
        written, used = [], 0
        for place, tokens in enumerate(left[:last]):
            kept = min(tokens, most_tokens - used)
            used += kept
            finish = Finish.LENGTH if used >= most_tokens else Finish.END if place == len(left) - 1 else Finish.STEP
            text = ANSWER if finish == Finish.END else "a step\n\n"
            written.append(Ahead(finish.value, text, range(kept), self._scores(question, step + place)))
            if finish != Finish.STEP or (op != Op.WRITE_ON and used >= (pass_tokens or math.inf)):
                break
        if op == Op.WRITE_ON:
            return [
                Answer(index, finish, text, ids, len(ids), scores=scores, open=finish == Finish.STEP)
                for finish, text, ids, scores, _ in written
            ]
        if op == Op.WHOLE:
            finish, text, *_ = written[-1]
            return [Answer(index, finish, text, range(used), used, scores=written[0].scores)]
        (finish, text, ids, scores, _), *more = written
        return [Answer(index, finish, text, ids, len(ids), scores=scores, more=tuple(more))]

    def _scores(self, question: int, step: int) -> Measured:
        """Scores with a confidence around 0.95 or 0.55, as in `actors/simulated/instant.py`. The prompt has none."""
        drawn = _hash(f"{question} {step}")
        if step < 0:
            return NOT_MEASURED
        unsure, spread = drawn % 1000 / 1000 < self._unsure, drawn // 1000 % 1000 / 1000
        confidence = 0.9 - 0.4 * unsure + 0.1 * spread
        return simulated_scores(confidence, 1)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
