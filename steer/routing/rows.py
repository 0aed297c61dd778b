"""What a group asks of a pool, and what it keeps of an answer."""

from array import array
from typing import NamedTuple

from steer.messages import Ids, Prompt
from steer.traces import Question

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


def as_asked(question: Question) -> list[KeptPiece]:
    """The prefix that a trace begins with: the prompt, and the steps that were written before."""
    prompt = KeptPiece("", Prompt(question.prompt, question.system), "")
    # Each has ids of its own, as a pool tells pieces apart by these objects.
    return [prompt, *(KeptPiece("", array("i"), text) for text, _ in question.begun_steps)]
