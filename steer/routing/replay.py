"""Rebuild a group in another process by repeating its calls.

A group changes by `decide`, `apply` and `lost` alone. A `LoggedRound` holds their arguments in order, and the policy's
decisions. A `GroupSnapshot` holds the state itself, so the rounds before it are no longer needed.

Invariants: replaying asks no policy and no engine. A replayed group is in the state of the group that was logged. The
state is written as pickles of plain data (`steer.routing.plain_pickle`): to read one runs no code of whoever wrote it.
`STATE_CLASSES` are all classes that a state may hold, but for the classes of a user's own policy.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from steer.config.run import RoutingOptions
from steer.messages import Ahead, Op, Prompt, StepResults
from steer.mixture.bank import Addition, ScoreBank
from steer.policies import OWN_CLASSES
from steer.routing.accounting import Accounting, Pending
from steer.routing.decisions import Decision, Decisions
from steer.routing.group import Group
from steer.routing.plain_pickle import REDUCERS, Functions, NotPlain, Reducers, dumps, loads
from steer.routing.rows import KeptPiece, Row
from steer.routing.scores import Scores
from steer.routing.thinking import Thinking
from steer.traces import Finish, Model, Question, Role, Status, Step, Trace

Kind = TypeVar("Kind")

FORMAT = 4
"""Number of the format in which groups and rounds are pickled. Count it up when their fields change."""


@dataclass(frozen=True)
class Answered:
    """The arguments of a call of `Group.apply`. Its R rows are named, not held: the group has them."""

    trace_R: npt.NDArray[np.int32]
    role_R: npt.NDArray[np.int8]
    seed_R: npt.NDArray[np.uint64]
    results: StepResults

    @classmethod
    def of(cls, rows: Sequence[Row], results: StepResults) -> "Answered":
        return cls(
            np.array([row.trace for row in rows], np.int32),
            np.array([row.role for row in rows], np.int8),
            np.array([row.seed for row in rows], np.uint64),
            results,
        )

    def apply(self, group: Group) -> None:
        """Repeat the call."""
        names = zip(self.trace_R.tolist(), self.role_R.tolist(), self.seed_R.tolist(), strict=True)
        group.apply([group.row_out(*name) for name in names], self.results)


@dataclass(frozen=True)
class Lost:
    """The arguments of a call of `Group.lost`."""

    rows: list[Row]
    reason: str


@dataclass(frozen=True)
class LoggedRound:
    """One round of a group: first what came back from the replicas, then what was decided."""

    events: list[Answered | Lost]
    decisions: list[Decision]
    mixtures: list[dict[str, Any]]
    """Mixtures fitted in this round (MIXTURE_STRUCT without `group_id`)."""
    additions: list[Addition]
    """Additions to the cell's score bank since the last logged round of any of the cell's groups."""
    policy: bytes | None
    """The policy after this round (see `dump`). None: it did not change."""


@dataclass
class GroupSnapshot:
    """A group, and what it has handed over that may not be committed yet."""

    group: Group
    finished: dict[str, Trace] = field(default_factory=dict)
    """Finished traces by trace id."""
    mixtures: list[dict[str, Any]] = field(default_factory=list)
    """All mixtures fitted so far."""
    written_as: int = field(default_factory=lambda: FORMAT)
    """`FORMAT` of the version that wrote it."""

    def refuse_other_format(self) -> None:
        """Raise LookupError if another version of STEER wrote this snapshot."""
        # A snapshot from before there was a number has the class's value as an attribute, but none of its own.
        written_as = vars(self).get("written_as", 1)
        if written_as != FORMAT:
            raise LookupError(f"its format is {written_as}, not {FORMAT}")

    def replay(self, logged_round: LoggedRound) -> None:
        """Repeat the calls of a round."""
        group = self.group
        for event in logged_round.events:
            if isinstance(event, Answered):
                event.apply(group)
            else:
                group.lost(event.rows, event.reason)
        group.decisions.repeat(logged_round.decisions)
        group.decide()
        self.mixtures += logged_round.mixtures
        self.finished |= {trace.question.trace_id: trace for _, trace in group.take_finished()}

    def forget(self, trace_ids: Iterable[str]) -> None:
        """Drop finished traces that are committed."""
        for trace_id in trace_ids:
            self.finished.pop(trace_id, None)


STATE_CLASSES: tuple[type, ...] = (
    *(GroupSnapshot, LoggedRound, Answered, Lost, ScoreBank, Addition),
    *(Group, Scores, Accounting, Pending, Thinking, Decisions, Decision, Row, KeptPiece, RoutingOptions),
    *(StepResults, Ahead, Prompt, Op, Question, Trace, Step, Model, Role, Status, Finish),
    *OWN_CLASSES,
)
"""The classes of a group's state. Their constructors and `__setstate__` keep what they get, and do nothing else."""


def dump(value: Any) -> bytes:
    """Pickle `value` without its questions and the cell's score bank, which the reader has anyway.

    Raises NotPlain for arrays of objects, and what pickle raises.
    """
    return dumps(value, _REDUCERS)


def load(data: bytes, questions: Mapping[str, Question], bank: ScoreBank | None, classes: Sequence[type] = ()) -> Any:
    """The value that `dump` was given, holding these questions (by trace id) and this bank.

    `classes`: further ones that it may hold. Raises NotPlain, a pickle error, if it holds others, LookupError if a
    question is missing, and what pickle raises.
    """
    functions: Functions = {
        (__name__, "_question_of_reader"): questions.__getitem__,
        (__name__, "_bank_of_reader"): lambda: bank,
    }
    return loads(data, (*STATE_CLASSES, *classes), functions)


def dump_bank(bank: ScoreBank) -> bytes:
    return dumps(bank, REDUCERS)


def load_bank(data: bytes) -> ScoreBank:
    """Raises NotPlain if it is no bank, and what pickle raises."""
    return of_kind(ScoreBank, loads(data, (ScoreBank,)))


def of_kind(kind: type[Kind], value: Any) -> Kind:
    """The value. Raises NotPlain if it is of another class."""
    if type(value) is not kind:
        raise NotPlain(f"it is a {type(value).__name__}, no {kind.__name__}")
    return value


def _question_of_reader(trace_id: str) -> Question:
    raise AssertionError("stands for its name in a pickle; `load` puts another function in its place")


def _bank_of_reader() -> ScoreBank:
    raise AssertionError("stands for its name in a pickle; `load` puts another function in its place")


_REDUCERS: Reducers = REDUCERS | {
    Question: lambda question: (_question_of_reader, (question.trace_id,)),
    ScoreBank: lambda bank: (_bank_of_reader, ()),
}
