"""The bodies that a replica holds: prompt and kept pieces as token ids, so that the router sends only what is new.

Invariants: a body changes by cutting and appending whole pieces, never inside one; a body once cut or replaced is never
written by the row that still refers to the old one; the tokens held stay under the capacity, least recently used bodies
go first, and a body that is gone is reported as missing, never guessed.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from actors.vocabulary import Vocabulary
from steer.confidence import SpanState, chosen_tokens
from steer.work import Piece, Prompt

CAPACITY_TOKENS = 32 * 2**20
"""Four bytes a token: 128 MiB a replica, 10,000 live traces of 3,000 tokens."""


class Body:
    """Token ids of one trace with the end of each piece."""

    __slots__ = ("ids", "ends", "spans")

    def __init__(self, ids: array, ends: list[int], spans: list[SpanState]):
        self.ids = ids
        self.ends = ends
        self.spans = spans
        """LaTeX span open after each of the first pieces; filled as far as somebody needed it."""

    @property
    def last_start(self) -> int:
        """Position of the last piece's first token."""
        return self.ends[-2] if len(self.ends) > 1 else 0

    def append(self, ids: Iterable[int]) -> None:
        self.ids.extend(ids)
        self.ends.append(len(self.ids))


class Bodies:
    """LRU store of bodies by trace key."""

    def __init__(self, vocabulary: Vocabulary, capacity_tokens: int = CAPACITY_TOKENS):
        self._vocabulary = vocabulary
        self._capacity_tokens = capacity_tokens
        self._bodies: OrderedDict[str, Body] = OrderedDict()
        self._tokens = 0

    def take(self, key: str, held: int, new: Sequence[Piece]) -> Body | None:
        """The body of `held` kept pieces and the `new` ones; None if fewer than `held` are here.

        ValueError if the body would not begin with a prompt, or the prompt cannot be encoded.
        """
        old = self._bodies.get(key)
        if held:
            if old is None or len(old.ends) < held:
                return None
            body = Body(old.ids[: old.ends[held - 1]], old.ends[:held], old.spans[:held])
        else:
            body = Body(array("i"), [], [])
        for piece in new:
            if isinstance(piece, Prompt) != (not body.ends):
                raise ValueError("a body is one prompt, then pieces")
            body.append(self._encode(piece))
        if not body.ends:
            raise ValueError("a body without a prompt")
        self._put(key, body)
        return body

    def write(self, key: str, body: Body, ids: Sequence[int], span: SpanState | None) -> None:
        """Append a written piece and the span state after it, unless the body was dropped or replaced meanwhile."""
        if self._bodies.get(key) is not body:
            return
        if span is not None and len(body.spans) == len(body.ends):
            body.spans.append(span)
        body.append(ids)
        self._tokens += len(ids)
        self._evict()

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            body = self._bodies.pop(key, None)
            if body is not None:
                self._tokens -= len(body.ids)

    def span(self, body: Body, pieces: int) -> SpanState:
        """The LaTeX span that is open after the first `pieces` pieces of a body; none is after the prompt."""
        while len(body.spans) < pieces:
            i = len(body.spans)
            if i == 0:
                body.spans.append(SpanState())
                continue
            ids = body.ids[body.ends[i - 1] : body.ends[i]]
            _, state = chosen_tokens("math", self._vocabulary.texts(ids), self.is_eos(ids), body.spans[i - 1])
            body.spans.append(state)
        return body.spans[pieces - 1]

    def is_eos(self, ids: Iterable[int]) -> list[bool]:
        eos_ids = self._vocabulary.eos_ids
        return [i in eos_ids for i in ids]

    def _encode(self, piece: Piece) -> Sequence[int]:
        if isinstance(piece, Prompt):
            return self._vocabulary.encode_prompt(piece)
        return self._vocabulary.encode(piece) if isinstance(piece, str) else piece

    def _put(self, key: str, body: Body) -> None:
        self.drop((key,))
        self._bodies[key] = body
        self._tokens += len(body.ids)
        self._evict()

    def _evict(self) -> None:
        while self._tokens > self._capacity_tokens and len(self._bodies) > 1:
            _, body = self._bodies.popitem(last=False)
            self._tokens -= len(body.ids)
