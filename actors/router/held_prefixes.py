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
"""In the place of a replica's number: the trace has no home."""


class HeldPrefixes:
    """Names a trace by its key and a replica by its number."""

    def __init__(self) -> None:
        self._home: dict[str, int] = {}
        self._ids: dict[str, list[tuple[int, ...] | Prompt]] = {}
        """By trace: the ids of every piece that its home holds."""

    def home(self, key: str) -> int:
        """The replica that the trace was last sent to; NO_HOME if it was never sent."""
        return self._home.get(key, NO_HOME)

    def send(self, key: str, replica: int, prefix: Sequence[KeptPiece]) -> int:
        """Note that `prefix` goes to `replica`. Returns how many of its leading pieces the replica holds already."""
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
        """Note the pieces that the home has appended to the prefix that it was sent."""
        if key in self._ids:
            self._ids[key].extend(pieces)

    def missing(self, key: str) -> None:
        """Note that the home no longer holds this trace."""
        self._home.pop(key, None)
        self._ids.pop(key, None)

    def forget(self, key: str) -> int:
        """Note that the trace has ended. Returns its home, which may drop the prefix."""
        self._ids.pop(key, None)
        return self._home.pop(key, NO_HOME)
