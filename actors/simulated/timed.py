"""A replica without a model that takes a real engine's time: what it writes is as long as it is told, and made up.

Behind the same thread, in-flight batches and flushes as `actors/engine/replica.py`, so that the loop around it can be measured with long
steps and short ones, on a machine without a GPU. Options come in the model entry's `engine` keys; its `path` is only a
name.
"""

import math
import os
import socket
import time
from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate

from actors.engine.in_flight import NOT_MEASURED, Answer, InFlightBatch
from actors.engine.thread import EngineThread
from actors.simulated.timed_engine import Speed, TimedEngine
from steer.config.run import PoolConfig
from steer.messages import WRITING, Ahead, EngineInfo, Op, Prompt
from steer.traces import Finish

TOKENIZER = "timed"
QUANTUM_S = 0.005
"""The thread looks for new rows at least this often: about as often as a real engine, between two decoding steps."""
ANSWER = "The answer is \\boxed{7}."


class TimedReplica(EngineThread):
    """Options: `lengths` (tokens of the steps, a list a trace), `speed` (the fields of `Speed`), `unsure` (share of the
    steps with a low confidence), `prompt_tokens`. The pool's `max_num_seqs` is the number of slots."""

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


class TimedLoop:
    """Answers rows when their time has come. All methods belong to one thread.

    A question always gets the same trace, by its prompt's hash, whoever asks in whatever order; how long its steps are
    and how sure the model is of them depends on nothing else.
    """

    def __init__(self, pool: PoolConfig, lengths: list[list[int]], speed: dict, unsure: float, prompt_tokens: int):
        self._engine = TimedEngine(Speed(**speed), pool.max_num_seqs)
        self._lengths, self._unsure, self._prompt_tokens = lengths, unsure, prompt_tokens
        self._question: dict[str, int] = {}
        self._pieces: dict[str, list[int]] = {}
        """Tokens of each piece of the prefixes that are held here."""

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
        """Sleep until a row is done, a quantum at most."""
        time.sleep(max(min(self._engine.next_s() - time.monotonic(), QUANTUM_S), 0.0))
        self._answer(self._engine.advance(time.monotonic()))

    def withdraw(self, in_flight: InFlightBatch) -> None:
        self._engine.withdraw(lambda row: row[0] is in_flight)

    def _answer(self, done: list[tuple[InFlightBatch, Answer]]) -> None:
        for in_flight, answer in done:
            in_flight.put(answer)

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
        # A piece of a pass holds several steps.
        step = bisect_right(list(accumulate(self._lengths[question % len(self._lengths)])), sum(pieces[1:]))
        if op == Op.SCORE:
            answer = Answer(index, Finish.STEP, scores=self._scores(question, step - 1))
        elif op == Op.PEEK:
            answer = Answer(index, Finish.STEP, tokens=1, scores=self._scores(question, step))
        elif op in WRITING:
            answer = self._write(index, op, question, step, batch.max_tokens_B[index], batch.sampling.pass_tokens)
            pieces += [len(answer.ids), *(len(ahead.ids) for ahead in answer.more)]
        else:
            answer = Answer(index, Finish.ERROR, error=f"a timed replica does not answer {Op(op).name}")
        self._pieces[key] = pieces
        answer = answer._replace(prompt_tokens=context, cached_tokens=context - prefill)
        tokens = len(answer.ids) + sum(len(ahead.ids) for ahead in answer.more)
        self._engine.add(time.monotonic(), (in_flight, answer), prefill, max(tokens, 1), context)

    def _write(
        self, index: int, op: int, question: int, step: int, most_tokens: int, pass_tokens: int | None
    ) -> Answer:
        """What the model writes from this step on: one, or as many as a pass, in one piece or step by step."""
        lengths = self._lengths[question % len(self._lengths)]
        left = lengths[step:] or [1]  # past the end: a trace whose last step was thrown away after the budget
        last = len(left) if op != Op.STEP else 1
        written, used = [], 0
        for place, tokens in enumerate(left[:last]):
            kept = min(tokens, most_tokens - used)
            used += kept
            finish = Finish.LENGTH if used >= most_tokens else Finish.END if place == len(left) - 1 else Finish.STEP
            text = ANSWER if finish == Finish.END else "a step\n\n"
            written.append(Ahead(finish.value, text, tuple(range(kept)), self._scores(question, step + place)))
            if finish != Finish.STEP or used >= (pass_tokens or math.inf):
                break
        if op == Op.WHOLE:
            finish, text, _, _ = written[-1]
            return Answer(index, finish, text, tuple(range(used)), used, scores=written[0].scores)
        (finish, text, ids, scores), *more = written
        return Answer(index, finish, text, ids, len(ids), scores=scores, more=tuple(more))

    def _scores(self, question: int, step: int) -> tuple[float, float, float]:
        """Of one lump around 0.9 and one around 0.5, as `actors/simulated/instant.py` has them."""
        drawn = _hash(f"{question} {step}")
        if step < 0:
            return NOT_MEASURED
        unsure, spread = drawn % 1000 / 1000 < self._unsure, drawn // 1000 % 1000 / 1000
        confidence = 0.9 - 0.4 * unsure + 0.1 * spread
        return 20 * confidence, confidence - 1.0, confidence


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
