"""What has happened to a group since it was admitted, so that another process can bring it to the same state.

A group changes by `decide`, `apply` and `lost` alone: their arguments, in order, and what the policy said, are its
history. Replaying it asks no policy and no engine. `GroupSnapshot` is the state itself, which makes an older history
superfluous. Both are bytes made by pickle: read them from folders that you trust.
"""

import copyreg
import io
import pickle
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from steer.messages import StepResults
from steer.mixture.bank import Addition, ScoreBank
from steer.routing.decisions import Decision
from steer.routing.group import Group
from steer.routing.rows import Row
from steer.traces import Question, Trace


@dataclass(frozen=True)
class Answered:
    """A call of `Group.apply`."""

    rows: list[Row]
    results: StepResults


@dataclass(frozen=True)
class Lost:
    """`Group.lost`."""

    rows: list[Row]
    reason: str


@dataclass(frozen=True)
class LoggedRound:
    """One round of a group: what came back, then what was decided."""

    came: list[Answered | Lost]
    decisions: list[Decision]
    mixtures: list[dict]
    """Fitted in this round (MIXTURE_STRUCT without `group`)."""
    additions: list[Addition]
    """To the cell's score bank since the last logged_round of any of its groups."""
    policy: bytes | None
    """The policy after this round; None: as it was."""


@dataclass
class GroupSnapshot:
    """A group and what of it has left it but may not be committed yet."""

    group: Group
    finished: dict[str, Trace] = field(default_factory=dict)
    """By trace id."""
    mixtures: list[dict] = field(default_factory=list)
    """All that were fitted so far."""

    def replay(self, logged_round: LoggedRound) -> None:
        group = self.group
        for event in logged_round.came:
            if isinstance(event, Answered):
                group.apply(event.rows, event.results)
            else:
                group.lost(event.rows, event.reason)
        group.decisions.repeat(logged_round.decisions)
        group.decide()
        self.mixtures += logged_round.mixtures
        self.finished |= {trace.question.trace_id: trace for _, trace in group.take_finished()}

    def forget(self, trace_ids: Iterable[str]) -> None:
        """These are committed."""
        for trace_id in trace_ids:
            self.finished.pop(trace_id, None)


def dump(value: Any) -> bytes:
    """`value` without what its reader has anyway: questions and the cell's bank. Raises what pickle raises."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    # By type, not by `persistent_id`, which is asked about every object: that took a third of a round's time.
    pickler.dispatch_table = copyreg.dispatch_table | {
        Question: lambda question: (_held, (question.trace_id,)),
        ScoreBank: lambda bank: (_held, (None,)),
    }
    pickler.dump(value)
    return file.getvalue()


def load(data: bytes, questions: Mapping[str, Question], bank: ScoreBank) -> Any:
    """What `dump` was given, with these questions (by trace id) and this bank in it."""
    token = _reader.set({**questions, None: bank})
    try:
        return pickle.loads(data)
    finally:
        _reader.reset(token)


_reader: ContextVar[Mapping] = ContextVar("reader")
"""What the reader of a dump has: questions by trace id, and the bank under None."""


def _held(name: str | None) -> Question | ScoreBank:
    return _reader.get()[name]
