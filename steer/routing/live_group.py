"""A group that admits while it runs: the requests of an endpoint, routed together.

It has a fixed number of places. A request takes a free one, and leaves it when its trace has ended and every row of it
has come back. Kept text can be taken as it is decided on. Where a replica answers the steps of a pass one by one, the
parts of the pass are kept as they come.

Invariants: a place is given to another request only when no row of the last one is out. A trace that is cancelled is
charged with what its rows had written. Decisions wait for no other trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from steer.config.run import RoutingOptions
from steer.messages import WRITING, Op, Prompt, StepResults
from steer.policies import Policy
from steer.routing.accounting import Pending
from steer.routing.group import Group
from steer.routing.rows import KeptPiece, Row
from steer.seeds import trace_hash
from steer.traces import PAIR, Question, Role, Status, Trace

CANCELLED = "cancelled"
"""`Trace.error` of a trace whose request was given up."""
_EMPTY = Question(id="", sample=0, benchmark="", prompt="", gold="", grader="")


@dataclass(frozen=True)
class Admission:
    """What a request asks of the group."""

    question: Question
    """Its id and sample make the sampling seeds, together with `seed`."""
    prompt: Prompt
    seed: int
    max_new_tokens: int


class LiveGroup(Group):
    """Axis `_L`: the places. Of a free one, the columns hold what the last trace left there."""

    admits = True
    """For policies: a place may be another trace's at the next decision."""

    def __init__(
        self,
        number: int,
        places: int,
        policy: Policy,
        options: RoutingOptions,
        *,
        tokenizers: Sequence[str] = ("", ""),
        closing_tags: Sequence[str] = ("", ""),
        judge: Role = Role.JUDGE,
        name: str = "live",
    ):
        """`places`: most live traces. `tokenizers`, `closing_tags`, `judge`: as of a group."""
        self._limits = [0] * places
        self._kept: list[tuple[int, str]] = []
        self._streamed: set[int] = set()
        """Traces of whose pass a part has come."""
        options = options.model_copy(update={"barrier": "rolling"})
        super().__init__(
            number,
            [_EMPTY] * places,
            policy,
            options,
            0,
            tokenizers=tokenizers,
            closing_tags=closing_tags,
            judge=judge,
            name=name,
        )
        self._number, self._admitted = number, count()
        self.live_L[:] = False
        self.live = 0
        self._free = list(range(places))[::-1]

    @property
    def free(self) -> int:
        """Free places."""
        return len(self._free)

    def admit(self, asked: Admission) -> int:
        """Give the request a place. Returns the place. IndexError: none is free."""
        trace = self._free.pop()
        self.questions[trace] = asked.question
        self.hash_L[trace] = trace_hash(asked.seed, asked.question.id, asked.question.sample)
        self.live_L[trace], self.busy_L[trace], self.last_L[trace] = True, False, False
        self.step_L[trace] = -1
        self.draft_L[trace] = self.signalled_L[trace] = False
        self.peek_L[trace] = self.signal_L[trace] = np.nan
        self.scores.forget(trace)
        self.key_L[trace] = f"{self._number}.{trace}.{next(self._admitted)}"
        self.prefix_L[trace] = [KeptPiece("", asked.prompt, "")]
        self._accounting.begin(trace)
        self._thinking.forget(trace)
        forget = getattr(self.policy, "forget", None)
        if forget is not None:
            forget(trace)
        self._attempt_L[trace] = self._tries_L[trace] = self._used_L[trace] = 0
        self._pending_L[trace] = None
        self._suspect.pop(trace, None)
        self._streamed.discard(trace)
        self._limits[trace] = asked.max_new_tokens
        self.live += 1
        return trace

    def leave(self, trace: int, status: Status = Status.ERROR, error: str = CANCELLED) -> None:
        """End a live trace now. It is finished once its rows that are out have come back."""
        pending = self._pending_L[trace]
        if pending is not None:
            self._accounting.discard(trace, pending.tokens)
        self._retire(trace, status, error)

    def take_kept(self) -> list[tuple[int, str]]:
        """(place, text) of what was kept since the last call, in its order."""
        kept, self._kept = self._kept, []
        return kept

    def take_finished(self) -> list[tuple[int, Trace]]:
        """As of a group. The places of these traces are free."""
        finished = super().take_finished()
        self._free += [trace for trace, _ in finished]
        return finished

    def lost(self, rows: Sequence[Row], reason: str) -> None:
        for row in rows:
            if row.trace in self._streamed and row.op == Op.WHOLE:
                # Part of the pass is kept, so the rest has a seed of its own: noise never repeats.
                self._streamed.discard(row.trace)
                self.step_L[row.trace] += 1
        super().lost(rows, reason)

    def _limit(self, trace: int) -> int:
        return self._limits[trace]

    def _go_on(self, trace: int, ids: Sequence[int], pending: Pending, still_written: bool) -> bool:
        (self._streamed.add if still_written else self._streamed.discard)(trace)
        return super()._go_on(trace, ids, pending, still_written)

    def _record(self, trace: int, pending: Pending, posterior: float, decision: str) -> None:
        super()._record(trace, pending, posterior, decision)
        if decision != "rewrite":
            # The recorded text, as a closing tag may have been added to what the model wrote.
            self._kept.append((trace, self._accounting.last_step(trace).text))

    def _retire(self, trace: int, status: Status, error: str = "") -> None:
        for role in Role:
            row = self._out.pop((trace, int(role)), None)
            if row is not None:
                self._cut[trace, row.role, row.seed] = row
                self._cuts[trace] = self._cuts.get(trace, 0) + 1
                if row.op in WRITING:
                    self._to_cut.append(row)
        self._again = [row for row in self._again if row.trace != trace]
        super()._retire(trace, status, error)

    def _take_cut(self, row: Row, results: StepResults, i: int) -> None:
        """Charge what the row of a trace that has ended had done."""
        if row.role in PAIR and not self._is_signal(row):
            ahead = sum(len(step.ids) for step in results.more_R.get(i, ()))
            self._accounting.charge_ahead(row.trace, row.role, ahead)
            self._accounting.discard(row.trace, ahead)
            super()._take_cut(row, results, i)
            return
        self._accounting.charge_signal(row.trace, row.role, results, i)
        if i not in results.open_R:
            self._end_cut(row)

    def _is_signal(self, row: Row) -> bool:
        return self._signal is not None and row.op == self._signal.op
