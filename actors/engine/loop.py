"""The loop around a `vllm.LLMEngine`, whatever its rows ask: admit -> advance -> answer. No thread, no Ray, no asyncio.

Invariants: every admitted row is answered exactly once, or withdrawn with its batch. A row that vLLM refuses ends as
`error`; the others go on.
"""

from abc import ABC, abstractmethod

from actors.engine.in_flight import Answer, InFlightBatch
from actors.engine.prefixes import Prefix, Prefixes
from actors.engine.requests import Intake
from steer.messages import Op
from steer.traces import Finish


class EngineRow:
    """One row of an in-flight batch, while the engine works on it."""

    __slots__ = ("in_flight", "index", "op", "key", "prefix")

    def __init__(self, in_flight: InFlightBatch, index: int, prefix: Prefix):
        """`index`: position of the row in its batch."""
        self.in_flight = in_flight
        self.index = index
        self.op = Op(in_flight.batch.op_B[index])
        self.key = in_flight.batch.key_B[index]
        self.prefix = prefix


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
        """Run one engine step and answer the rows whose requests ended in it."""
        for output in self._engine.step():
            row = self._rows.pop(output.request_id, None)
            if row is None:
                continue
            answer = self._close(row, output)
            if answer is not None:
                row.in_flight.put(answer)

    def withdraw(self, in_flight: InFlightBatch) -> None:
        """Forget a batch that nobody waits for."""
        gone = [request for request, row in self._rows.items() if row.in_flight is in_flight]
        self._engine.abort_request(gone)
        for request in gone:
            del self._rows[request]

    def _admit_row(self, in_flight: InFlightBatch, index: int) -> Answer | None:
        """Bring the row's prefix up to date, then open the row."""
        batch = in_flight.batch
        try:
            prefix = self._prefixes.take(batch.key_B[index], batch.held_B[index], batch.new_B[index])
        except (ValueError, TypeError, OverflowError) as error:
            return Answer(index, Finish.ERROR, error=f"the prefix cannot be taken: {error}")
        if prefix is None:
            return Answer(index, Finish.MISSING)
        return self._open(in_flight, index, prefix)

    @abstractmethod
    def _open(self, in_flight: InFlightBatch, index: int, prefix: Prefix) -> Answer | None:
        """Hand the row to the engine, or answer it at once."""

    @abstractmethod
    def _close(self, row: EngineRow, output) -> Answer | None:
        """Answer a row whose request has ended. None if the row goes on with another request."""

    def _send(self, row: EngineRow, ids: list[int], params) -> Answer | None:
        """Give vLLM one request of the row. Returns an answer only if vLLM refuses the request."""
        request = str(self._next_id)
        self._next_id += 1
        try:
            self._intake.add(request, ids, params)
        except self._intake.refusals as error:
            return Answer(row.index, Finish.ERROR, error=f"vLLM refuses the row: {error}")
        self._rows[request] = row
        return None
