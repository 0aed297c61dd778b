"""What a group hands out, and what it keeps of an answer."""

from typing import TYPE_CHECKING, NamedTuple

from steer.work import Prompt

if TYPE_CHECKING:
    from steer.group import Group


class Row(NamedTuple):
    """One operation on one trace of one group, to be run by any replica of the seat `model`."""

    group: "Group"
    trace: int
    model: int
    op: int
    seed: int
    max_tokens: int
    suspect: bool = False
    """A replica died on this row alone: the pool runs it apart from others."""


class KeptPiece(NamedTuple):
    """The text of one kept step (or the prompt) in both forms; the tokenizer says who may read the ids."""

    tokenizer: str
    ids: tuple[int, ...] | Prompt
    text: str
