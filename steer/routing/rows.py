"""What a group asks of a pool, and what it keeps of an answer."""

from typing import NamedTuple

from steer.messages import Prompt


class Row(NamedTuple):
    """One operation on one trace of a group. Any replica of `role` can run it."""

    trace: int
    """Index of the trace in its group."""
    role: int
    op: int
    seed: int
    max_tokens: int
    suspect: bool = False
    """A replica died on this row, so the pool runs it apart from other rows."""


class KeptPiece(NamedTuple):
    """The prompt or one kept step, as token ids and as text. `tokenizer` says which models can read the ids."""

    tokenizer: str
    ids: tuple[int, ...] | Prompt
    text: str
