"""Rows that cannot be asked or graded, in a sentence: how many, the commonest reason, and an example.

Invariant: reasons that differ only in what the row holds (`...: it holds '27.5'`, `a list of 3 texts`, the place of an
error in its text) count as one.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_HOLDS = ": it holds "
# The name of a field (`field 'a'`) is part of the reason. Other quoted parts, numbers and asides are the row's own.
_OF_THE_ROW = re.compile(r"""(?<!field )(?:'[^']*'|"[^"]*")|\((?:[^()]|\([^()]*\))*\)|\d+""")


class Refusal(NamedTuple):
    place: str
    """The file or data set, and the row's number in it."""
    error: str
    """The reason, which begins with the place."""


def commonest(refusals: Sequence[Refusal]) -> str:
    """The commonest reason and the first row of it: `field 'a' is missing: fill it in (3 rows, as d.jsonl row 4)`.

    Empty if there is no refusal.
    """
    if not refusals:
        return ""
    kinds = [_OF_THE_ROW.sub("*", _reason(refusal)) for refusal in refusals]
    kind, count = Counter(kinds).most_common(1)[0]
    example = refusals[kinds.index(kind)]
    reason = _reason(example)
    held = example.error.partition(_HOLDS)[2]
    where = f"as {example.place}{f', which holds {held}' if held else ''}"
    return f"{reason} ({count} row{'s' * (count > 1)}, {where})"


def none_left(what: str, reason: str) -> str:
    """The message for a source of which every row is refused. `what` has the number of its rows, `reason` is what
    `commonest` says of them."""
    return f"{what} can be used, so nothing is started. The commonest reason: {reason}. `steer data` lists the others"


def _reason(refusal: Refusal) -> str:
    return refusal.error.removeprefix(refusal.place).lstrip(": ").partition(_HOLDS)[0]
