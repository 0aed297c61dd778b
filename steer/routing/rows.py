"""What a group asks of a pool, and what it keeps of an answer."""

from array import array
from typing import NamedTuple

from steer.messages import Ids, Op, Prompt
from steer.policies import Policy, Signal
from steer.traces import Question, Role

ALONE = -1
"""Value of `Row.suspect`: a replica died while this row alone was out there, or with rows that cannot be told apart."""


class Row(NamedTuple):
    """One operation on one trace of a group. Any replica of `role` can run it."""

    trace: int
    """Index of the trace in its group."""
    role: int
    op: int
    seed: int
    max_tokens: int
    suspect: int = 0
    """Not 0: a replica died on this row, so the pool runs it apart from other rows: alone, or together with the
    suspects of the same number."""


class KeptPiece(NamedTuple):
    """The prompt, one kept step, or text that no model wrote: as token ids and as text. `tokenizer` says which models
    can read the ids. Text that no model wrote has no ids, and every model encodes it."""

    tokenizer: str
    ids: Ids | Prompt | str
    text: str


def as_asked(question: Question) -> list[KeptPiece]:
    """The prefix that a trace begins with: the prompt, and the steps that were written before."""
    prompt = KeptPiece("", Prompt(question.prompt, question.system), "")
    # Each has ids of its own, as a pool tells pieces apart by these objects.
    return [prompt, *(KeptPiece("", array("i"), text) for text, _ in question.begun_steps)]


def writing_ops(policy: Policy, writing_on: bool) -> tuple[int, int]:
    """By model: how it is asked to write."""
    by_steps = Op.WRITE_ON if writing_on else Op.STEP
    small = Op.WHOLE if policy.whole else Op.AHEAD if policy.ahead and not writing_on else by_steps
    large = Op.WHOLE if policy.whole or policy.finishes else by_steps
    return int(small), int(large)


def asked_of(policy: Policy, judge: Role) -> Signal | None:
    """The policy's signal, and which role gives it. `judge`: the role that rates drafts."""
    signal = policy.signal
    return signal._replace(role=judge) if signal is not None and signal.role == Role.JUDGE else signal
