"""What a group asks of a pool, and what it keeps of an answer."""

from typing import NamedTuple

from steer.messages import Ids, Prompt

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
    """The prompt or one kept step, as token ids and as text. `tokenizer` says which models can read the ids."""

    tokenizer: str
    ids: Ids | Prompt
    text: str
