"""A journaled group: the state of one group, its log in the journal, and its finished traces until they are handed on.

Invariants: every answer and every decision is in the journal before a trace is handed on because of it, and on a disk
before a row goes out. A trace stays in the journal until its row is committed.
"""

import time
from collections.abc import Collection, Iterable, Sequence

from actors.router.journal import CellJournal, GroupLog
from actors.router.pool import Reply
from steer.policies import Policy
from steer.routing.group import Group
from steer.routing.replay import Answered, GroupSnapshot, LoggedRound, Lost, dump, load
from steer.routing.rows import Row
from steer.traces import Question, Status, Trace


class JournaledGroup:
    """A group and its log. In a run without a journal there is no log."""

    def __init__(self, snapshot: GroupSnapshot, log: GroupLog | None = None, cell: CellJournal | None = None):
        """`log` and `cell`: None in a run without a journal."""
        self._snapshot, self._log, self._cell = snapshot, log, cell
        self._events: list[Answered | Lost] = []
        """What came back from the replicas since the last logged round."""
        self._policy = b""
        """The policy as it was last logged."""
        self._finished: list[Trace] = list(snapshot.finished.values())
        self.errors = sum(trace.status == Status.ERROR for trace in self._finished)
        """Finished traces that are error rows, of those that were not committed when the group began."""
        """Finished traces that have not been handed on."""
        self._mixtures_handed = 0
        self._over = False
        self.fit_s = 0.0
        """Seconds in the policy."""
        self.journal_s = 0.0
        """Seconds of writing the journal."""

    @classmethod
    def begin(cls, cell: CellJournal, snapshot: GroupSnapshot, classes: Sequence[type] = ()) -> "JournaledGroup":
        """A journaled group whose log begins with `snapshot`. `classes`: those of a user's policy.

        Blocks. Raises ValueError if the policy holds what could not be read back, and OutputFailed.
        """
        if classes:
            _refuse_unreadable(snapshot.group.policy, classes)
        log = cell.log(snapshot.group.name)
        log.begin(snapshot)
        return cls(snapshot, log, cell)

    @classmethod
    def recover(
        cls,
        cell: CellJournal,
        name: str,
        questions: Sequence[Question],
        committed: Collection[str],
        number: int,
        tokenizers: Sequence[str],
        classes: Sequence[type] = (),
    ) -> "JournaledGroup | None":
        """A group as its log left it after its last round. None: the journal has no such group.

        `committed`: ids of the traces whose rows are in the run's tables. `number`, `tokenizers`: see
        `Group.move_to_router`. `classes`: those of a user's policy. Blocks. Raises ValueError if another version of
        STEER wrote the log, or it holds other classes, and OutputFailed.
        """
        by_id = {question.trace_id: question for question in questions}
        snapshot = cell.recover(name, by_id, classes)
        if snapshot is None:
            return None
        snapshot.forget(committed)
        snapshot.group.move_to_router(number, tokenizers)
        snapshot.group.withdraw(committed)
        return cls.begin(cell, snapshot, classes)

    @property
    def group(self) -> Group:
        return self._snapshot.group

    @property
    def waiting(self) -> int:
        """Finished traces that have not been handed on."""
        return len(self._finished)

    def take(self, reply: Reply) -> None:
        """Apply a reply to the group. Rows without results are lost."""
        lost = reply.results is None
        if self._log is not None:
            known = Lost(reply.rows, reply.reason) if lost else Answered.of(reply.rows, reply.results)
            self._events.append(known)
        if lost:
            self.group.lost(reply.rows, reply.reason)
        else:
            self.group.apply(reply.rows, reply.results)

    def decide(self) -> list[Row]:
        """The rows to dispatch now. Everything that led to them is in the journal, or is held for it (`flush`).

        Blocks for milliseconds, so call it off the event loop. Raises OutputFailed if the journal cannot be written.
        """
        started = time.monotonic()
        rows = self.group.decide()
        mixtures = self.group.policy.mixtures()
        decisions = self.group.decisions.take()
        self.fit_s += time.monotonic() - started
        self._snapshot.mixtures += mixtures
        if self._log is not None:
            started = time.monotonic()
            self._write(decisions, mixtures)
            self.journal_s += time.monotonic() - started
        return rows

    @property
    def hold_s(self) -> float:
        """Seconds for which the journal holds rounds before it writes them."""
        return 0.0 if self._log is None else self._log.hold_s

    @property
    def due_s(self) -> float | None:
        """Seconds until `flush` should be called. None: nothing is held."""
        return None if self._log is None else self._log.due_s

    def flush(self) -> None:
        """Write the rounds that the journal holds. Call this before `hand_over`. Blocks. Raises OutputFailed."""
        if self._log is not None:
            started = time.monotonic()
            self._log.flush()
            self.journal_s += time.monotonic() - started

    def retire(self) -> list[int]:
        """Indices of the traces that ended since the last call. They wait to be handed on."""
        finished = self.group.take_finished()
        for _, trace in finished:
            self._finished.append(trace)
            self.errors += trace.status == Status.ERROR
            if self._log is not None:
                self._snapshot.finished[trace.question.trace_id] = trace
        return [i for i, _ in finished]

    def hand_over(self) -> tuple[list[Trace], list[dict]]:
        """The traces that finished and the mixtures that were fitted since the last call."""
        traces, self._finished = self._finished, []
        mixtures = self._snapshot.mixtures[self._mixtures_handed :]
        self._mixtures_handed += len(mixtures)
        return traces, [{"group_id": self.group.name, **row} for row in mixtures]

    def committed(self, trace_ids: Iterable[str]) -> bool:
        """Note that the rows of these traces are in the run's tables. Returns True if the group is over and this holds
        for all its traces."""
        self._snapshot.forget(trace_ids)
        return self._over and not self._snapshot.finished

    def end(self) -> None:
        """Note that all traces have been handed on."""
        self._over = True

    def remove_journal(self) -> None:
        """Delete the group's log, once `committed` has returned True. Only in a run with a journal. Blocks."""
        self._log.remove()

    def _write(self, decisions: Sequence, mixtures: list[dict]) -> None:
        events, self._events = self._events, []
        policy = dump(self.group.policy)
        changed = policy != self._policy
        self._policy = policy
        additions = self._cell.bank.take_additions()
        self._log.write(LoggedRound(events, decisions, mixtures, additions, policy if changed else None))
        if self._log.overgrown:
            # `finished` is copied because the event loop changes it meanwhile, when rows are committed.
            now = GroupSnapshot(self.group, dict(self._snapshot.finished), self._snapshot.mixtures)
            self._log.begin(now)


def _refuse_unreadable(policy: Policy, classes: Sequence[type]) -> None:
    """Raise ValueError if a user's policy holds what a journal cannot be read back with."""
    try:
        load(dump(policy), {}, None, classes)
    except Exception as error:
        raise ValueError(
            f"the policy of {classes[0].__module__}:{classes[0].__qualname__} cannot be kept in the journal "
            f"({type(error).__name__}: {error}): hold plain data, NumPy arrays and objects of the classes that its "
            "attribute journal_classes lists, or set journal: false"
        ) from error
