"""The token prefixes that a replica holds: prompt and kept pieces as token ids. The router sends only what is new.

Invariants: A prefix changes by cutting and appending whole pieces, never inside one. Once a prefix is cut or replaced,
a row that still refers to the old one never writes to the new one. The tokens held stay under the capacity, and the
least recently used prefixes go first. A prefix that is gone is reported as missing, never guessed.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from actors.engine.tokenizer import Tokenizer
from steer.confidence import SpanState, chosen_tokens
from steer.messages import Piece, Prompt

CAPACITY_TOKENS = 32 * 2**20
"""Tokens that a replica holds at most: 10,000 live traces of 3,000 tokens, in 128 MiB (four bytes a token)."""


class Prefix:
    """The prefix of one trace."""

    __slots__ = ("ids", "ends", "spans")

    def __init__(self, ids: array, ends: list[int], spans: list[SpanState]):
        self.ids = ids
        """Token ids."""
        self.ends = ends
        """End of each piece, as a position in `ids`."""
        self.spans = spans
        """The LaTeX span that is open after each piece. Filled only for the first pieces, as far as it was needed."""

    @property
    def last_start(self) -> int:
        """Position of the last piece's first token."""
        return self.ends[-2] if len(self.ends) > 1 else 0

    def append(self, ids: Iterable[int]) -> None:
        self.ids.extend(ids)
        self.ends.append(len(self.ids))


class Prefixes:
    """The prefixes by trace key, with least recently used eviction."""

    def __init__(self, tokenizer: Tokenizer, capacity_tokens: int = CAPACITY_TOKENS):
        self._tokenizer = tokenizer
        self._capacity_tokens = capacity_tokens
        self._prefixes: OrderedDict[str, Prefix] = OrderedDict()
        self._tokens = 0

    def take(self, key: str, held: int, new: Sequence[Piece]) -> Prefix | None:
        """Cut the trace's prefix to its first `held` pieces, append the `new` ones, and return it.

        None if fewer than `held` pieces are here. ValueError if the prefix would not begin with a prompt, or the prompt
        cannot be encoded.
        """
        old = self._prefixes.get(key)
        if held:
            if old is None or len(old.ends) < held:
                return None
            prefix = Prefix(old.ids[: old.ends[held - 1]], old.ends[:held], old.spans[:held])
        else:
            prefix = Prefix(array("i"), [], [])
        for piece in new:
            if isinstance(piece, Prompt) != (not prefix.ends):
                raise ValueError("a prefix is one prompt, then pieces")
            prefix.append(self._encode(piece))
        if not prefix.ends:
            raise ValueError("a prefix without a prompt")
        self._put(key, prefix)
        return prefix

    def write(self, key: str, prefix: Prefix, ids: Sequence[int], span: SpanState | None) -> None:
        """Append a written piece and the span that is open after it, unless the prefix was dropped or replaced since.
        `span`: None if nobody followed the spans."""
        if self._prefixes.get(key) is not prefix:
            return
        if span is not None and len(prefix.spans) == len(prefix.ends):
            prefix.spans.append(span)
        prefix.append(ids)
        self._tokens += len(ids)
        self._evict()

    def drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            prefix = self._prefixes.pop(key, None)
            if prefix is not None:
                self._tokens -= len(prefix.ids)

    def span(self, prefix: Prefix, pieces: int) -> SpanState:
        """The LaTeX span that is open after the first `pieces` pieces. No span is open after the prompt."""
        while len(prefix.spans) < pieces:
            i = len(prefix.spans)
            if i == 0:
                prefix.spans.append(SpanState())
                continue
            ids = prefix.ids[prefix.ends[i - 1] : prefix.ends[i]]
            _, state = chosen_tokens("math", self._tokenizer.texts(ids), self.is_eos(ids), prefix.spans[i - 1])
            prefix.spans.append(state)
        return prefix.spans[pieces - 1]

    def is_eos(self, ids: Iterable[int]) -> list[bool]:
        eos_ids = self._tokenizer.eos_ids
        return [i in eos_ids for i in ids]

    def _encode(self, piece: Piece) -> Sequence[int]:
        if isinstance(piece, Prompt):
            return self._tokenizer.encode_prompt(piece)
        return self._tokenizer.encode(piece) if isinstance(piece, str) else piece

    def _put(self, key: str, prefix: Prefix) -> None:
        self.drop((key,))
        self._prefixes[key] = prefix
        self._tokens += len(prefix.ids)
        self._evict()

    def _evict(self) -> None:
        while self._tokens > self._capacity_tokens and len(self._prefixes) > 1:
            _, prefix = self._prefixes.popitem(last=False)
            self._tokens -= len(prefix.ids)
