"""The rows of the batches in flight on one vLLM engine: admit -> advance -> answer. No thread, no Ray, no asyncio.

Invariants: every admitted row is answered exactly once, or withdrawn with its batch; a row that vLLM refuses ends as
`error` and the others go on; text is decoded from the ids, so nothing that a token carries past the delimiter is lost.
"""

import time
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from actors.bodies import Bodies, Body
from actors.requests import Requests
from actors.vocabulary import Vocabulary
from steer.confidence import SpanState, chosen_tokens, step_scores
from steer.traces import Finish
from steer.work import Op, StepBatch

MAX_EMPTY_STEPS = 8
"""Consecutive steps without visible text that are merged into one; a model silent for so long ends as `length`."""
NOT_MEASURED = (np.nan, np.nan, np.nan)


class Answer(NamedTuple):
    """What becomes of one row; `steer.work.StepResults` has the same in columns."""

    row: int
    finish: str
    text: str = ""
    ids: tuple[int, ...] = ()
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    scores: tuple[float, float, float] = NOT_MEASURED
    seconds: float = 0.0
    error: str = ""


class Ticket:
    """One batch in flight. The engine's thread puts answers in, the reader takes them out."""

    def __init__(self, batch: StepBatch, on_done: Callable[[], None]):
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


class Row:
    """One row of a ticket while the engine works on it."""

    __slots__ = ("ticket", "index", "op", "key", "body", "seed", "room", "ids", "flat", "prompt", "cached", "merged")

    def __init__(self, ticket: Ticket, index: int, body: Body, room: int):
        batch = ticket.batch
        self.ticket = ticket
        self.index = index
        self.op = batch.op_B[index]
        self.key = batch.key_B[index]
        self.body = body
        self.seed = batch.seed_B[index]
        self.room = room
        """Tokens it may still write."""
        self.ids: list[int] = []
        self.flat: list[float] = []
        """Logits of `ids`: the columns of the confidence hook, row by row."""
        self.prompt = 0
        self.cached = 0
        self.merged = 0
        """Empty steps so far."""


class Stepper:
    """Drives a `vllm.LLMEngine`. All methods belong to one thread."""

    def __init__(self, engine, requests: Requests, vocabulary: Vocabulary, bodies: Bodies, max_model_len: int):
        self._engine = engine
        self._requests = requests
        self._vocabulary = vocabulary
        self._bodies = bodies
        self._max_model_len = max_model_len
        self._rows: dict[str, Row] = {}
        self._next_id = 0

    @property
    def unfinished(self) -> bool:
        return bool(self._rows)

    def admit(self, ticket: Ticket) -> None:
        """Take a batch in: rows that need no engine are answered at once."""
        batch = ticket.batch
        self._bodies.drop(batch.drop)
        for index in range(len(batch.key_B)):
            answer = self._open(ticket, index)
            if answer is not None:
                ticket.put(answer)

    def advance(self) -> None:
        """One step of the engine, then answer what ended in it."""
        for output in self._engine.step():
            row = self._rows.pop(output.request_id, None)
            if row is None:
                continue
            answer = self._close(row, output)
            if answer is not None:
                row.ticket.put(answer)

    def withdraw(self, ticket: Ticket) -> None:
        """Forget a batch that nobody waits for."""
        gone = [request for request, row in self._rows.items() if row.ticket is ticket]
        self._engine.abort_request(gone)
        for request in gone:
            del self._rows[request]

    # --- a row's way in ---------------------------------------------------------------------------------------------

    def _open(self, ticket: Ticket, index: int) -> Answer | None:
        """Hand one row to the engine, or answer it at once."""
        batch = ticket.batch
        try:
            body = self._bodies.take(batch.key_B[index], batch.held_B[index], batch.new_B[index])
        except (ValueError, TypeError, OverflowError) as error:
            return Answer(index, Finish.ERROR, error=f"the body cannot be taken: {error}")
        if body is None:
            return Answer(index, Finish.MISSING)
        op = batch.op_B[index]
        if op == Op.SCORE:
            return self._open_score(Row(ticket, index, body, 1))
        free = self._max_model_len - len(body.ids)
        if free < 1:
            return self._no_room(body, index, Finish.STEP if op == Op.PROBE else Finish.LENGTH)
        if op != Op.PROBE and batch.max_tokens_B[index] < 1:
            return Answer(index, Finish.LENGTH)
        return self._send(Row(ticket, index, body, 1 if op == Op.PROBE else min(free, batch.max_tokens_B[index])))

    def _open_score(self, row: Row) -> Answer | None:
        body = row.body
        if len(body.ends) < 2:
            return Answer(row.index, Finish.ERROR, error="there is no step to score: the body is the prompt alone")
        if body.last_start == len(body.ids):
            return Answer(row.index, Finish.STEP)  # a piece of no token, e.g. an end of sequence handed over as text
        # The pass reads the body less its last token, whose logits come with the one token that is generated.
        if len(body.ids) > self._max_model_len:
            return self._no_room(body, row.index, Finish.STEP)
        return self._send(row)

    def _no_room(self, body: Body, index: int, finish: Finish) -> Answer:
        """The context is full: an error of the prompt alone, or the end (`finish`) of a trace that has steps."""
        prompt_tokens = body.ends[0]
        if prompt_tokens >= self._max_model_len:
            error = f"the prompt has {prompt_tokens} tokens, the model's context {self._max_model_len} with the answer"
            return Answer(index, Finish.ERROR, error=error)
        return Answer(index, finish)

    def _send(self, row: Row, skip_cache: bool = False) -> Answer | None:
        sampling = row.ticket.batch.sampling
        ids = row.body.ids.tolist()
        if row.op == Op.SCORE:
            ids.pop()
            params = self._requests.score(len(ids) - row.body.last_start, skip_cache)
        elif row.op == Op.PROBE:
            params = self._requests.score(0, False)
        else:
            ids += row.ids
            seed = _merged_seed(row.seed, row.merged) if row.merged else row.seed
            params = self._requests.write(sampling, row.op == Op.STEP, seed, row.room)
        request = str(self._next_id)
        self._next_id += 1
        try:
            self._requests.add(request, ids, params)
        except self._requests.refusals as error:
            return Answer(row.index, Finish.ERROR, error=f"vLLM refuses the row: {error}")
        self._rows[request] = row
        return None

    # --- a row's way out --------------------------------------------------------------------------------------------

    def _close(self, row: Row, output) -> Answer | None:
        """Answer a row whose request has ended; None if it goes on with another request."""
        row.prompt += len(output.prompt_token_ids)
        cached = output.num_cached_tokens or 0
        row.cached += cached
        completion = output.outputs[0]
        if completion.finish_reason not in ("stop", "length"):
            reason = f"vLLM ended the request: {completion.finish_reason} {completion.stop_reason or ''}"
            return Answer(row.index, Finish.ERROR, error=reason.strip())
        if row.op == Op.PROBE:
            return self._answer(row, Finish.STEP, scores=self._scores(completion.logprobs.logprobs, np.ones(1, bool)))
        if row.op == Op.SCORE:
            return self._close_score(row, output, cached)
        row.ids += completion.token_ids
        row.flat += completion.logprobs.logprobs
        finish = self._finish(completion)
        text = self._vocabulary.decode(row.ids)
        if finish is Finish.STEP and not text.strip():
            row.merged += 1
            row.room -= len(completion.token_ids)
            if row.room > 0 and row.merged < MAX_EMPTY_STEPS:
                return self._send(row)
            finish = Finish.LENGTH
        keep, span = self._chosen(row, row.ids, len(row.body.ends))
        scores = self._scores(row.flat, keep)
        self._bodies.write(row.key, row.body, row.ids, span)
        return self._answer(row, finish, text, tuple(row.ids), scores)

    def _close_score(self, row: Row, output, cached: int) -> Answer | None:
        body, width = row.body, self._requests.width
        first = body.last_start - 1  # the position whose logits predict the step's first token
        last = len(body.ids) - 2
        flat = list(output.outputs[0].logprobs.logprobs)
        if first < last:
            if first < cached:  # positions before `cached` were not computed: what stands there is garbage
                return self._send(row, skip_cache=True)
            flat = output.prompt_logprobs.logprobs[width * first : width * last] + flat
        pieces = len(body.ends)
        keep, span = self._chosen(row, body.ids[body.last_start :], pieces - 1)
        if span is not None and len(body.spans) == pieces - 1:
            body.spans.append(span)
        return self._answer(row, Finish.STEP, scores=self._scores(flat, keep))

    def _answer(self, row: Row, finish: Finish, text="", ids=(), scores=NOT_MEASURED) -> Answer:
        tokens = 1 if row.op == Op.PROBE else len(ids)
        return Answer(row.index, finish, text, ids, tokens, row.prompt, row.cached, scores)

    def _finish(self, completion) -> Finish:
        """vLLM stops with no reason at the tokenizer's end of sequence, with the id at another one, with the string at
        the delimiter."""
        if completion.finish_reason == "length":
            return Finish.LENGTH
        reason = completion.stop_reason
        return Finish.END if reason is None or reason in self._vocabulary.eos_ids else Finish.STEP

    def _chosen(self, row: Row, ids, before: int) -> tuple[np.ndarray, SpanState | None]:
        """Which tokens of a piece count, and the LaTeX span open after it; `before`: pieces in front of it."""
        rule = row.ticket.batch.sampling.tokens
        state = self._bodies.span(row.body, before) if rule == "math" else SpanState()
        texts = self._vocabulary.texts(ids) if rule == "math" else [""] * len(ids)
        keep, state = chosen_tokens(rule, texts, self._bodies.is_eos(ids), state)
        return keep, state if rule == "math" else None

    def _scores(self, flat, keep_T) -> tuple[float, float, float]:
        """`flat`: the logits of T tokens, `width` columns each."""
        z = np.array(flat, np.float64).reshape(-1, self._requests.width)
        if self._requests.width == 2:
            unknown_T = np.full(len(z), np.nan)
            return step_scores(z[:, 1], unknown_T, unknown_T, keep_T)
        return step_scores(z[:, 1], z[:, 2], z[:, 3], keep_T)


def _merged_seed(seed: int, merged: int) -> int:
    """The seed after so many empty steps: the same in every process, 63 bits."""
    return int.from_bytes(blake2b(f"{seed}/{merged}".encode(), digest_size=8).digest(), "big") >> 1
