"""Failures of a run that a person can mend: which file, why, and what to do about it.

An exception comes out of a task, an actor or Ray Data wrapped several times over; the one that names the file is
looked for inside, and what is said is that one alone.
"""

import errno
import os
from collections.abc import Iterator

REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or have the quota raised",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.ENOTDIR: "move away the file that stands where a folder should be",
    errno.EISDIR: "move away the folder that stands where a file should be",
    errno.EIO: "see to the disk",
    errno.ESTALE: "mount it again",
    errno.ENOENT: "give a folder that can be made",
}
_MEND = "mend that"


class OutputFailed(Exception):
    """A file of a run's folder cannot be written (or, at the start, its folder not be looked into)."""

    def __init__(self, path: str, root: str, reason: str, remedy: str):
        super().__init__(path, root, reason, remedy)  # what pickle rebuilds it from
        self.path, self.root, self.reason, self.remedy = path, root, reason, remedy

    @classmethod
    def of(cls, error: OSError, path: str, root: str) -> "OutputFailed":
        number = error.errno or 0
        reason = os.strerror(number) if number else " ".join(str(error).split()) or type(error).__name__
        return cls(path, root, reason, REMEDIES.get(number, _MEND))

    def __str__(self) -> str:
        return f"{self.path} cannot be written: {self.reason}; {self.remedy}"


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
    """The failure and all that it was raised from, Ray's wrapping taken off; each once."""
    seen: set[int] = set()
    left = [failure]
    while left:
        inner = left.pop(0)
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        yield inner
        wrapped = (getattr(inner, "cause", None), inner.__cause__, inner.__context__)
        left += [other for other in wrapped if isinstance(other, BaseException)]
