"""One group's journaled through the router: its state, its journal, and what is still to be handed on.

Invariants: what a policy decides, and every answer before it, is in the journal before a row goes out on it or a trace
is handed on; a trace stays in the journal until its row is committed.
"""

import time
from collections.abc import Collection, Iterable, Sequence

from actors.router.journal import CellJournal, GroupLog
from actors.router.pool import Reply
from steer.routing.group import Group
from steer.routing.replay import Answered, GroupSnapshot, LoggedRound, Lost, dump
from steer.routing.rows import Row
from steer.traces import Question, Trace


class JournaledGroup:
    def __init__(self, snapshot: GroupSnapshot, log: GroupLog | None = None, cell: CellJournal | None = None):
        """Without a journal `log` and `cell` are None."""
        self._snapshot, self._log, self._cell = snapshot, log, cell
        self._came: list[Answered | Lost] = []
        self._policy = b""
        self._to_hand: list[Trace] = list(snapshot.finished.values())
        self._mixtures_handed = 0
        self._over = False
        self.fit_s = 0.0
        """Seconds in the policy."""
        self.journal_s = 0.0

    @property
    def group(self) -> Group:
        return self._snapshot.group

    @property
    def waiting(self) -> int:
        """Finished traces that have not been handed on."""
        return len(self._to_hand)

    def take(self, answer: Reply) -> None:
        """Bring an answer to the group. Rows without results are lost."""
        if answer.results is None:
            self._note(Lost(answer.rows, answer.reason))
            self.group.lost(answer.rows, answer.reason)
        else:
            self._note(Answered(answer.rows, answer.results))
            self.group.apply(answer.rows, answer.results)

    def decide(self) -> list[Row]:
        """The rows to dispatch now, with all that led to them in the journal. Blocks for milliseconds: off the event
        loop. Raises OSError where the journal cannot be written."""
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

    def retire(self) -> list[int]:
        """Traces (indices) that ended since the last call; they wait to be handed on."""
        finished = self.group.take_finished()
        for _, trace in finished:
            self._to_hand.append(trace)
            if self._log is not None:
                self._snapshot.finished[trace.question.trace_id] = trace
        return [i for i, _ in finished]

    def hand_over(self) -> tuple[list[Trace], list[dict]]:
        """Finished traces, and the mixtures fitted, since the last call."""
        traces, self._to_hand = self._to_hand, []
        mixtures = self._snapshot.mixtures[self._mixtures_handed :]
        self._mixtures_handed += len(mixtures)
        return traces, [{"group": self.group.name, **row} for row in mixtures]

    def committed(self, trace_ids: Iterable[str]) -> bool:
        """These have their rows in the run's tables; True when the group is over and all its traces have."""
        self._snapshot.forget(trace_ids)
        return self._over and not self._snapshot.finished

    def end(self) -> None:
        """All traces have been handed on."""
        self._over = True

    def remove_journal(self) -> None:
        """Blocks. The group is over and committed, and has a journal."""
        self._log.remove()

    def _note(self, event: Answered | Lost) -> None:
        if self._log is not None:
            self._came.append(event)

    def _write(self, decisions: Sequence, mixtures: list[dict]) -> None:
        came, self._came = self._came, []
        policy = dump(self.group.policy)
        changed = policy != self._policy
        self._policy = policy
        additions = self._cell.bank.take_additions()
        self._log.write(LoggedRound(came, decisions, mixtures, additions, policy if changed else None))
        if self._log.overgrown:
            # A copy of what the event loop changes meanwhile, when rows are committed.
            now = GroupSnapshot(self.group, dict(self._snapshot.finished), self._snapshot.mixtures)
            self._log.begin(now)


def recovered(
    cell: CellJournal,
    name: str,
    questions: Sequence[Question],
    committed: Collection[str],
    number: int,
    tokenizers: Sequence[str],
) -> JournaledGroup | None:
    """The journaled of a group that the journal knows, from its last round on; None if it does not know it. `committed`:
    traces (ids) whose rows there are. Blocks."""
    snapshot = cell.recover(name, {question.trace_id: question for question in questions})
    if snapshot is None:
        return None
    snapshot.forget(committed)
    snapshot.group.move_to_router(number, tokenizers)
    snapshot.group.withdraw(committed)
    return begun(cell, snapshot)


def begun(cell: CellJournal, snapshot: GroupSnapshot) -> JournaledGroup:
    """A journaled whose log begins here. Blocks."""
    log = cell.log(snapshot.group.name)
    log.begin(snapshot)
    return JournaledGroup(snapshot, log, cell)
