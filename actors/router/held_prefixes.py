"""Which replica of a pool holds how much of each trace's prefix.

The pool notes what it sends and what comes back. The group only appends pieces to a prefix and removes its last one, a
discarded draft. So where the prefix has the same piece at a position as the replica, all pieces before it agree too.

Invariants: a trace has one home, the replica it was last sent to. A piece counts as held only if it is the very object
that was sent or answered.
"""

from collections.abc import Iterable, Sequence

from steer.messages import Prompt
from steer.routing.rows import KeptPiece

NO_HOME = -1
"""Number of no replica."""


class HeldPrefixes:
    """Traces are named by their key, replicas by their number."""

    def __init__(self) -> None:
        self._home: dict[str, int] = {}
        self._ids: dict[str, list[tuple[int, ...] | Prompt]] = {}
        """The ids of every piece that the home holds."""

    def home(self, key: str) -> int:
        """The replica that the trace was last sent to; NO_HOME if it was sent to none."""
        return self._home.get(key, NO_HOME)

    def send(self, key: str, replica: int, prefix: Sequence[KeptPiece]) -> int:
        """Note that `prefix` goes to `replica`; returns how many leading pieces of it are there already."""
        if self._home.get(key) != replica:
            self._home[key], self._ids[key] = replica, []
        ids = self._ids[key]
        held = min(len(ids), len(prefix))
        while held and prefix[held - 1].ids is not ids[held - 1]:
            held -= 1
        del ids[held:]
        ids.extend(piece.ids for piece in prefix[held:])
        return held

    def written(self, key: str, pieces: Iterable[tuple[int, ...]]) -> None:
        """Note the pieces that the home has written behind what it was sent."""
        if key in self._ids:
            self._ids[key].extend(pieces)

    def missing(self, key: str) -> None:
        """The home holds nothing of this trace any more."""
        self._home.pop(key, None)
        self._ids.pop(key, None)

    def forget(self, key: str) -> int:
        """The trace has ended; returns its home, which may drop the prefix."""
        self._ids.pop(key, None)
        return self._home.pop(key, NO_HOME)
