"""The loop around a `vllm.LLMEngine`, whatever its rows ask: admit -> advance -> answer. No thread, no Ray, no asyncio.

Invariants: every admitted row is answered to its end exactly once. A row that vLLM refuses ends as `error`; the others
go on.
"""

from abc import ABC, abstractmethod

from actors.engine.in_flight import Answer, InFlightBatch
from actors.engine.prefixes import Prefix, Prefixes
from actors.engine.requests import Intake
from steer.messages import PROMPT_UNREADABLE, Op
from steer.traces import Finish


class EngineRow:
    """One row of an in-flight batch, while the engine works on it."""

    __slots__ = ("in_flight", "index", "op", "key", "prefix", "request")

    def __init__(self, in_flight: InFlightBatch, index: int, prefix: Prefix):
        """`index`: position of the row in its batch."""
        self.in_flight = in_flight
        self.index = index
        self.op = Op(in_flight.batch.op_B[index])
        self.key = in_flight.batch.key_B[index]
        self.prefix = prefix
        self.request = ""
        """Id of its last request to vLLM."""


class EngineLoop(ABC):
    """All methods belong to one thread. A subclass says what a row asks of vLLM (`_open`) and how vLLM's output answers
    the row (`_close`)."""

    def __init__(self, engine, intake: Intake, prefixes: Prefixes, max_model_len: int):
        self._engine = engine
        self._intake = intake
        self._prefixes = prefixes
        self._max_model_len = max_model_len
        self._rows: dict[str, EngineRow] = {}
        """Rows in the engine, by vLLM's request id."""
        self._next_id = 0

    @property
    def unfinished(self) -> bool:
        return bool(self._rows)

    def admit(self, in_flight: InFlightBatch) -> None:
        """Take a batch in. Rows that need no engine are answered at once."""
        batch = in_flight.batch
        self._prefixes.drop(batch.drop)
        for index in range(len(batch.key_B)):
            answer = self._admit_row(in_flight, index)
            if answer is not None:
                in_flight.put(answer)

    def advance(self) -> None:
        """Run one engine step. Answer the rows whose requests ended in it or wrote a step."""
        for output in self._engine.step():
            row = self._rows.get(output.request_id)
            if row is None:  # it was cut
                continue
            if output.finished:
                del self._rows[output.request_id]
                answer = self._close(row, output)
                if answer is not None:
                    row.in_flight.put(answer)
            else:
                self._progress(row, output)

    def cut(self, in_flight: InFlightBatch, index: int) -> None:
        """End the writing row at this position of a batch, unless it has ended by itself. Asked of a loop that writes
        alone: every other one has answered such a row with an error."""
        raise NotImplementedError(f"{type(self).__name__} has no rows that write")

    def _admit_row(self, in_flight: InFlightBatch, index: int) -> Answer | None:
        """Bring the row's prefix up to date, then open the row."""
        batch = in_flight.batch
        try:
            prefix = self._prefixes.take(batch.key_B[index], batch.held_B[index], batch.new_B[index])
        except (ValueError, TypeError, OverflowError) as error:
            return Answer(index, Finish.ERROR, error=f"{PROMPT_UNREADABLE}: {error}")
        if prefix is None:
            return Answer(index, Finish.MISSING)
        return self._open(in_flight, index, prefix)

    @abstractmethod
    def _open(self, in_flight: InFlightBatch, index: int, prefix: Prefix) -> Answer | None:
        """Hand the row to the engine, or answer it at once."""

    @abstractmethod
    def _close(self, row: EngineRow, output) -> Answer | None:
        """Answer a row whose request has ended. None if the row goes on with another request."""

    def _progress(self, row: EngineRow, output) -> None:
        """Take what a request has brought while it goes on. vLLM says nothing before the end of a request, unless the
        loop has asked for parts: then it says here what it does with them."""
        raise NotImplementedError(f"{type(self).__name__} asks for no parts of an output")

    def _send(self, row: EngineRow, ids: list[int], params) -> Answer | None:
        """Give vLLM one request of the row. Returns an answer only if vLLM refuses the request."""
        request = str(self._next_id)
        self._next_id += 1
        try:
            self._intake.add(request, ids, params)
        except self._intake.refusals as error:
            return Answer(row.index, Finish.ERROR, error=f"vLLM refuses the row: {error}")
        row.request = request
        self._rows[request] = row
        return None
