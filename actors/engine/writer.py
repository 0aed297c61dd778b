"""The loop around an engine that writes: it writes steps, scores them, peeks at first tokens and judges drafts.

Invariants, beside those of `EngineLoop`: A step's text is decoded from its ids, so nothing that a token carries past
the delimiter is lost. The text of a pass is cut where steps end that are written one by one.
"""

import time
from array import array
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from actors.engine.in_flight import NO_IDS, NOT_MEASURED, Answer, InFlightBatch
from actors.engine.judge import Judge
from actors.engine.loop import EngineLoop, EngineRow
from actors.engine.prefixes import Prefix, Prefixes
from actors.engine.requests import DELIMITER, Requests
from actors.engine.tokenizer import Tokenizer
from steer.confidence import SpanState, chosen_tokens, step_scores, token_measures
from steer.messages import PROMPT_TOO_LONG, Ahead, Ids, Op, TokenScores
from steer.traces import MEASURES, Finish, Measured

NOTHING_MEASURED: tuple[Measured, TokenScores] = (NOT_MEASURED, None)
MAX_EMPTY_STEPS = 8
"""Most requests for one step. The text of a request that brings nothing visible is merged with the next request's. A
model that is silent for so many requests ends its trace as `length`."""


class WriterRow(EngineRow):
    """A row, and what its requests have brought so far."""

    __slots__ = ("seed", "room", "ids", "measured", "taken", "prompt", "cached", "further", "text", "looked", "since_s")

    def __init__(self, in_flight: InFlightBatch, index: int, prefix: Prefix, room: int):
        super().__init__(in_flight, index, prefix)
        self.seed = in_flight.batch.seed_B[index]
        self.room = room
        """Tokens that the row may still write."""
        self.ids = array("i")
        """Tokens written and not answered yet."""
        self.measured: list[np.ndarray] = []
        """What was measured of `ids`, [T, 4] in pieces (`Requests.measures`)."""
        self.taken = 0
        """Tokens of the last request that were taken."""
        self.prompt = 0
        """Prompt tokens, over all requests, that no answer has named yet."""
        self.cached = 0
        """Those of them that the prefix cache held."""
        self.further = 0
        """Requests after the first. One follows when a request ends without visible text, or within a step."""
        self.text = ""
        """Answered step by step: text of the step that is being written."""
        self.looked = 0
        """Answered step by step: tokens of `ids` that `text` holds."""
        self.since_s = in_flight.arrived_s
        """When the row arrived or was last answered."""

    @property
    def streams(self) -> bool:
        """Whether each step of the row is answered as soon as it is written."""
        return self.op == Op.WRITE_ON or (self.op == Op.WHOLE and self.in_flight.batch.sampling.stream)


class Writer(EngineLoop):
    """The loop around a `vllm.LLMEngine` that writes. All methods belong to one thread."""

    def __init__(
        self,
        engine,
        requests: Requests,
        tokenizer: Tokenizer,
        prefixes: Prefixes,
        max_model_len: int,
        judge: Judge,
        judges_apart: bool,
    ):
        """`judges_apart`: rows that judge and rows that write may not be in the engine at the same time."""
        super().__init__(engine, requests, prefixes, max_model_len)
        self._requests = requests
        self._tokenizer = tokenizer
        self._judge = judge
        self._judges_apart = judges_apart
        self._judging = False
        """With `judges_apart`: whether the rows in the engine judge."""
        self._waiting: deque[tuple[WriterRow, list[int], object]] = deque()
        """With `judges_apart`: requests that wait for the other kind to leave. None waits while the engine is empty."""
        self._going: dict[tuple[int, int], WriterRow] = {}
        """Writing rows in the engine, by call and position in the batch."""

    def advance(self) -> None:
        super().advance()
        self._release()

    def cut(self, in_flight: InFlightBatch, index: int) -> None:
        row = self._going.pop((in_flight.call, index), None)
        if row is None:  # it has ended by itself
            return
        unseen = 0
        if row.request in self._rows:
            del self._rows[row.request]
            self._engine.abort_request([row.request])
            unseen = self._requests.sampled(row.request, row.taken) - row.taken
            self._requests.forget(row.request)
        else:
            self._waiting = deque(request for request in self._waiting if request[0] is not row)
        cut = self._answer(row, Finish.CUT)._replace(tokens=len(row.ids) + unseen)
        row.in_flight.put(cut)
        self._release()

    # --- a row's way in ---------------------------------------------------------------------------------------------

    def _open(self, in_flight: InFlightBatch, index: int, prefix: Prefix) -> Answer | None:
        batch = in_flight.batch
        op = batch.op_B[index]
        if op in (Op.REWARD, Op.SOLVE):
            return Answer(index, Finish.ERROR, error=f"this replica writes: it does not answer {Op(op).name}")
        if op == Op.SCORE:
            return self._open_score(WriterRow(in_flight, index, prefix, 1))
        if op == Op.JUDGE:
            return self._open_judge(WriterRow(in_flight, index, prefix, 1))
        free = self._max_model_len - len(prefix.ids)
        if free < 1:
            return self._no_room(prefix, index, Finish.STEP if op == Op.PEEK else Finish.LENGTH)
        if op == Op.PEEK:
            return self._send(
                WriterRow(in_flight, index, prefix, 1), prefix.ids.tolist(), self._requests.score(0, False)
            )
        if batch.max_tokens_B[index] < 1:
            return Answer(index, Finish.LENGTH)
        return self._send_write(WriterRow(in_flight, index, prefix, min(free, batch.max_tokens_B[index])))

    def _open_score(self, row: WriterRow) -> Answer | None:
        prefix = row.prefix
        if len(prefix.ends) < 2:
            return Answer(row.index, Finish.ERROR, error="there is no step to score: the prefix is the prompt alone")
        if prefix.last_start == len(prefix.ids):
            return Answer(row.index, Finish.STEP)  # a piece without a token, e.g. an end of sequence sent as text
        # The pass reads the prefix without its last token. That token's logits come with the one that vLLM generates.
        if len(prefix.ids) > self._max_model_len:
            return self._no_room(prefix, row.index, Finish.STEP)
        return self._send_score(row)

    def _open_judge(self, row: WriterRow) -> Answer | None:
        prefix = row.prefix
        if len(prefix.ends) < 2:
            return Answer(row.index, Finish.ERROR, error="there is no draft to judge: the prefix is the prompt alone")
        try:
            ids = self._judge.input_ids(prefix.ids, row.in_flight.batch.sampling.judge_prompt)
            digits = self._judge.digits
        except ValueError as error:
            return Answer(row.index, Finish.ERROR, error=f"the draft cannot be judged: {error}")
        if len(ids) >= self._max_model_len:
            return Answer(row.index, Finish.STEP)  # without a signal
        return self._send(row, ids, self._requests.read_tokens(digits))

    def _no_room(self, prefix: Prefix, index: int, finish: Finish) -> Answer:
        """The answer if the context is full: an error if the prompt alone fills it, else `finish`."""
        prompt_tokens = prefix.ends[0]
        if prompt_tokens >= self._max_model_len:
            error = (
                f"{PROMPT_TOO_LONG} {prompt_tokens} tokens, the model's context {self._max_model_len} with the answer"
            )
            return Answer(index, Finish.ERROR, error=error)
        return Answer(index, finish)

    def _send_write(self, row: WriterRow) -> Answer | None:
        """Send the row's next request. Every request after the first ends with the step, in a pass too."""
        sampling = row.in_flight.batch.sampling
        seed = _further_seed(row.seed, row.further) if row.further else row.seed
        to_the_end = row.op == Op.WRITE_ON
        to_delimiter = row.op == Op.STEP or row.further > 0
        room = row.room if to_delimiter or to_the_end else min(row.room, sampling.most_in_pass(row.op) or row.room)
        params = self._requests.write(sampling, to_delimiter, seed, room, row.streams and not to_delimiter)
        row.taken = 0
        answer = self._send(row, row.prefix.ids.tolist() + row.ids.tolist(), params)
        if answer is None:
            self._going[row.in_flight.call, row.index] = row
        return answer

    def _send_score(self, row: WriterRow, skip_cache: bool = False) -> Answer | None:
        ids = row.prefix.ids.tolist()
        ids.pop()
        return self._send(row, ids, self._requests.score(len(ids) - row.prefix.last_start, skip_cache))

    def _send(self, row: WriterRow, ids: list[int], params) -> Answer | None:
        judging = row.op == Op.JUDGE
        if self._judges_apart and self._rows and (self._waiting or judging != self._judging):
            self._waiting.append((row, ids, params))
            return None
        self._judging = judging
        return super()._send(row, ids, params)

    def _release(self) -> None:
        """If the engine is empty, send it all waiting requests of the kind that has waited longest."""
        while self._waiting and not self._rows:
            judging = self._waiting[0][0].op == Op.JUDGE
            waited, self._waiting = self._waiting, deque()
            for row, ids, params in waited:
                if (row.op == Op.JUDGE) != judging:
                    self._waiting.append((row, ids, params))
                    continue
                self._judging = judging
                answer = super()._send(row, ids, params)
                if answer is not None:
                    row.in_flight.put(answer)

    # --- a row's way out --------------------------------------------------------------------------------------------

    def _progress(self, row: WriterRow, output) -> None:
        self._take_in(row, output)
        self._answer_steps(row)

    def _close(self, row: WriterRow, output) -> Answer | None:
        try:
            return self._closed(row, output)
        finally:
            self._requests.forget(output.request_id)

    def _closed(self, row: WriterRow, output) -> Answer | None:
        self._going.pop((row.in_flight.call, row.index), None)
        completion = output.outputs[0]
        if completion.finish_reason not in ("stop", "length"):
            reason = f"vLLM ended the request: {completion.finish_reason} {completion.stop_reason or ''}"
            return Answer(row.index, Finish.ERROR, error=reason.strip())
        if row.op in (Op.PEEK, Op.JUDGE, Op.SCORE):
            self._read_prompt(row, output)
        if row.op == Op.PEEK:
            measured = self._requests.measures(row.request, 0, completion)
            return self._answer(row, Finish.STEP, measured=self._scores(row, measured, np.ones(1, bool)))
        if row.op == Op.JUDGE:
            rating = self._judge.rating(completion.logprobs.logprobs[1:], row.in_flight.batch.sampling.greedy_judge)
            return self._answer(row, Finish.STEP)._replace(signal=rating)
        if row.op == Op.SCORE:
            return self._close_score(row, output)
        self._take_in(row, output)
        finish = self._finish(completion)
        if row.streams:
            self._answer_steps(row)
        if row.op == Op.WRITE_ON:
            return self._answer_step(row, len(row.ids), finish)
        if finish is not Finish.END and (row.room > 0 or finish is Finish.STEP):
            # The request ended at a delimiter or, in a pass, at `most_in_pass`. Neither need be the end of a step.
            if self._ends_a_step(row):
                finish = Finish.STEP
            else:
                row.further += 1
                if row.room > 0 and row.further < MAX_EMPTY_STEPS:
                    return self._send_write(row)
                finish = Finish.LENGTH
        if row.op == Op.AHEAD:
            return self._close_ahead(row, finish)
        return self._answer_step(row, len(row.ids), finish)

    def _read_prompt(self, row: WriterRow, output) -> None:
        """Count the request's prompt."""
        row.prompt += len(output.prompt_token_ids)
        row.cached += output.num_cached_tokens or 0

    def _take_in(self, row: WriterRow, output) -> None:
        """Take the tokens that a request has brought, and their measures."""
        completion = output.outputs[0]
        if not row.taken:
            self._read_prompt(row, output)
        row.measured.append(self._requests.measures(row.request, row.taken, completion))
        row.ids.extend(completion.token_ids)
        row.taken += len(completion.token_ids)
        row.room -= len(completion.token_ids)

    def _answer_steps(self, row: WriterRow) -> None:
        """Answer every step that a row which writes on has finished."""
        unread = row.ids[row.looked :]
        for text in self._tokenizer.texts(unread):
            row.looked += 1
            row.text += text
            if "\n" in text and DELIMITER in row.text.lstrip():
                step = self._answer_step(row, row.looked, Finish.STEP)
                row.in_flight.put(step._replace(open=True))
                row.looked, row.text = 0, ""

    def _answer_step(self, row: WriterRow, tokens: int, finish: Finish) -> Answer:
        """The answer with the row's first `tokens` tokens, which leave the row and become a piece of its prefix."""
        measured = np.concatenate(row.measured) if row.measured else np.zeros((0, len(MEASURES)))
        ids, row.ids, row.measured = row.ids[:tokens], row.ids[tokens:], [measured[tokens:]]
        keep, span = self._chosen(row, ids, len(row.prefix.ends))
        scores = self._scores(row, measured[:tokens], keep)
        self._prefixes.write(row.key, row.prefix, ids, span)
        return self._answer(row, finish, self._tokenizer.decode(ids), ids, scores)

    def _ends_a_step(self, row: WriterRow) -> bool:
        """Whether the row's text ends where a step ends."""
        if row.op == Op.STEP:  # vLLM found the delimiter: the step ends if any text is visible
            return bool(self._tokenizer.decode(row.ids).strip())
        if row.streams and not row.ids:  # its finished steps are answered
            return True
        texts = self._tokenizer.texts(row.ids)
        *_, start, _ = (0, *step_ends(texts))
        return DELIMITER in "".join(texts[start:]).lstrip()

    def _close_ahead(self, row: WriterRow, finish: Finish) -> Answer:
        """One answer with all steps of a pass. Each step becomes a piece of the prefix, as if written alone."""
        ends = step_ends(self._tokenizer.texts(row.ids))
        first, *more = (
            self._answer_step(row, end - start, finish if end == ends[-1] else Finish.STEP)
            for start, end in pairwise((0, *ends))
        )
        return first._replace(more=tuple(Ahead(str(a.finish), a.text, a.ids, a.scores, a.token_scores) for a in more))

    def _close_score(self, row: WriterRow, output) -> Answer | None:
        prefix, cached = row.prefix, output.num_cached_tokens or 0
        first = prefix.last_start - 1  # the position whose logits predict the step's first token
        last = len(prefix.ids) - 2  # the position whose logits predict its last token
        measured = self._requests.measures(row.request, 0, output.outputs[0])
        if first < last:
            if first < cached:  # positions before `cached` were not computed, and vLLM leaves garbage there
                return self._send_score(row, skip_cache=True)
            width = self._requests.width
            before = self._requests.as_measures(output.prompt_logprobs.logprobs[width * first : width * last])
            measured = np.concatenate([before, measured])
        pieces = len(prefix.ends)
        keep, span = self._chosen(row, prefix.ids[prefix.last_start :], pieces - 1)
        if span is not None and len(prefix.spans) == pieces - 1:
            prefix.spans.append(span)
        return self._answer(row, Finish.STEP, measured=self._scores(row, measured, keep))

    def _answer(self, row: WriterRow, finish: Finish, text="", ids: Ids = NO_IDS, measured=NOTHING_MEASURED) -> Answer:
        """The answer to a row. What it read since its last answer goes with it."""
        tokens = 1 if row.op in (Op.PEEK, Op.JUDGE) else len(ids)
        prompt, row.prompt = row.prompt, 0
        cached, row.cached = row.cached, 0
        now_s = time.monotonic()
        seconds, row.since_s = now_s - row.since_s, now_s
        scores, token_scores = measured
        return Answer(row.index, finish, text, ids, tokens, prompt, cached, scores, seconds, token_scores=token_scores)

    def _finish(self, completion) -> Finish:
        """How the request ended. vLLM's stop reason is None at the tokenizer's end of sequence, a token id at another
        end of sequence, and the string at the delimiter."""
        if completion.finish_reason == "length":
            return Finish.LENGTH
        reason = completion.stop_reason
        return Finish.END if reason is None or reason in self._tokenizer.eos_ids else Finish.STEP

    def _chosen(self, row: WriterRow, ids, before: int) -> tuple[np.ndarray, SpanState | None]:
        """Which tokens of a piece count for its scores, and the LaTeX span that is open after it (None: not followed).
        `before`: number of pieces in front of it."""
        rule = row.in_flight.batch.sampling.tokens
        state = self._prefixes.span(row.prefix, before) if rule == "math" else SpanState()
        texts = self._tokenizer.texts(ids) if rule == "math" else [""] * len(ids)
        keep, state = chosen_tokens(rule, texts, self._prefixes.is_eos(ids), state)
        return keep, state if rule == "math" else None

    def _scores(self, row: WriterRow, measured: np.ndarray, keep_T) -> tuple[Measured, TokenScores]:
        """The scores of T tokens from their z_max, logsumexp, entropy and margin [T, 4], and if they are asked for the
        tokens' own measures."""
        measures_T4 = token_measures(*measured.T)
        tokens = None
        if row.in_flight.batch.sampling.token_scores:
            tokens = np.concatenate([measures_T4, np.asarray(keep_T)[:, None]], axis=1, dtype=np.float32)
        return step_scores(measures_T4, keep_T), tokens


def step_ends(token_texts: Sequence[str]) -> list[int]:
    """Where the steps of a text end, in tokens, as if each step had been written by itself.

    A step ends after the token that completes a delimiter behind visible text. The last step ends with the text.
    """
    ends, step = [], ""
    for position, text in enumerate(token_texts, 1):
        step += text
        if DELIMITER in step.lstrip():
            ends.append(position)
            step = ""
    return ends if ends and ends[-1] == len(token_texts) else [*ends, len(token_texts)]


def _further_seed(seed: int, further: int) -> int:
    """The seed of a row's `further`-th request after the first: 63 bits, the same in every process."""
    return int.from_bytes(blake2b(f"{seed}/{further}".encode(), digest_size=8).digest(), "big") >> 1
