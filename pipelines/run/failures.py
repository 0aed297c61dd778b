"""Failures of a run that a person can mend: which file, why, and what to do about it.

An exception comes out of a task, an actor or Ray Data wrapped several times over; the one that names the file is
looked for inside, and what is said is that one alone.
"""

import os
from collections.abc import Iterator

from steer.storage.filesystem import REMEDIES, OutputFailed


def message_of(failure: BaseException) -> str | None:
    """What a person can act on in a failure of a run that had begun; None if it holds nothing of the kind."""
    for inner in _within(failure):
        if isinstance(inner, OutputFailed):
            return f"{inner}, then go on with `steer run --resume {inner.root}` (a sweep: its command with --resume)"
    for inner in _within(failure):
        if isinstance(inner, OSError) and inner.errno in REMEDIES and inner.filename is not None:
            return f"{inner.filename}: {os.strerror(inner.errno)}; {REMEDIES[inner.errno]}"
    return None


def _within(failure: BaseException) -> Iterator[BaseException]:
    """The failure and all that it was raised from, each once. What has a `cause` is Ray's wrapping of it, with a whole
    trace for its text, and passes for one of the cause's own class."""
    seen: set[int] = set()
    left = [failure]
    while left:
        inner = left.pop(0)
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        wrapped = getattr(inner, "cause", None)
        if not isinstance(wrapped, BaseException):
            yield inner
        further = (wrapped, inner.__cause__, inner.__context__)
        left += [other for other in further if isinstance(other, BaseException)]
