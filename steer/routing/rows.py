"""What a group asks of a pool, and what it keeps of an answer."""

from typing import NamedTuple

from steer.messages import Ids, Op, Prompt
from steer.policies import Policy

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


def writing_ops(policy: Policy, writing_on: bool) -> tuple[int, int]:
    """By model: how it is asked to write."""
    by_steps = Op.WRITE_ON if writing_on else Op.STEP
    small = Op.WHOLE if policy.whole else Op.AHEAD if policy.ahead and not writing_on else by_steps
    large = Op.WHOLE if policy.whole or policy.finishes else by_steps
    return int(small), int(large)
