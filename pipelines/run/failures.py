"""The message for failures of a run that a person can mend: which file, why, and the remedy.

Ray and Ray Data wrap an exception of a task or an actor several times. The message comes from the exception inside that
names the file.
"""

import os
from collections.abc import Iterator

from steer.storage.filesystem import REMEDIES, OutputFailed


def message_of(failure: BaseException) -> str | None:
    """The message for a failure of a run that had started. None: there is nothing in it that a person could mend."""
    for cause in causes(failure):
        if isinstance(cause, OutputFailed):
            return f"{cause}, then go on with `steer run --resume {cause.root}` (a sweep: its command with --resume)"
    for cause in causes(failure):
        if isinstance(cause, OSError) and cause.errno in REMEDIES and cause.filename is not None:
            return f"{cause.filename}: {os.strerror(cause.errno)}; {REMEDIES[cause.errno]}"
    return None


def causes(failure: BaseException) -> Iterator[BaseException]:
    """The failure and everything that it was raised from, each once.

    Ray's wrappers, which have a `cause`, are left out: their text is a whole stack trace, and they pass for instances
    of the cause's class.
    """
    seen: set[int] = set()
    left: list[BaseException | None] = [failure]
    while left:
        inner = left.pop(0)
        if inner is None or id(inner) in seen:
            continue
        seen.add(id(inner))
        wrapped = getattr(inner, "cause", None)
        if not isinstance(wrapped, BaseException):
            wrapped = None
            yield inner
        context = None if inner.__suppress_context__ else inner.__context__
        left += [wrapped, inner.__cause__, context]
