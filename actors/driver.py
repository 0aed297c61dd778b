"""What drives a `vllm.LLMEngine` has in common, whatever it asks of it: admit -> advance -> answer.

Invariants: every admitted row is answered exactly once, or withdrawn with its batch; a row that vLLM refuses ends as
`error` and the others go on. No thread, no Ray, no asyncio.
"""

from abc import ABC, abstractmethod

from actors.bodies import Bodies, Body
from actors.requests import Intake
from actors.tickets import Answer, Ticket
from steer.traces import Finish
from steer.work import Op


class Row:
    """One row of a ticket while the engine works on it."""

    __slots__ = ("ticket", "index", "op", "key", "body")

    def __init__(self, ticket: Ticket, index: int, body: Body):
        self.ticket = ticket
        self.index = index
        self.op = Op(ticket.batch.op_B[index])
        self.key = ticket.batch.key_B[index]
        self.body = body


class Driver(ABC):
    """All methods belong to one thread. A subclass says what a row asks of vLLM (`_open`) and how its output answers
    it (`_close`)."""

    def __init__(self, engine, intake: Intake, bodies: Bodies, max_model_len: int):
        self._engine = engine
        self._intake = intake
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
            answer = self._take(ticket, index)
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

    def _take(self, ticket: Ticket, index: int) -> Answer | None:
        """Bring one row's body up to date and open it."""
        batch = ticket.batch
        try:
            body = self._bodies.take(batch.key_B[index], batch.held_B[index], batch.new_B[index])
        except (ValueError, TypeError, OverflowError) as error:
            return Answer(index, Finish.ERROR, error=f"the body cannot be taken: {error}")
        if body is None:
            return Answer(index, Finish.MISSING)
        return self._open(ticket, index, body)

    @abstractmethod
    def _open(self, ticket: Ticket, index: int, body: Body) -> Answer | None:
        """Hand one row to the engine, or answer it at once."""

    @abstractmethod
    def _close(self, row: Row, output) -> Answer | None:
        """Answer a row whose request has ended; None if it goes on with another request."""

    def _send(self, row: Row, ids: list[int], params) -> Answer | None:
        """Give vLLM one request of a row; an answer only where it refuses."""
        request = str(self._next_id)
        self._next_id += 1
        try:
            self._intake.add(request, ids, params)
        except self._intake.refusals as error:
            return Answer(row.index, Finish.ERROR, error=f"vLLM refuses the row: {error}")
        self._rows[request] = row
        return None
