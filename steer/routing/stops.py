"""Stop strings in a text that comes in pieces."""

from collections.abc import Sequence


class StopScanner:
    """Says what of a text may be handed on. What could begin a stop string is held back until it is known.

    The text ends before the stop string that begins first; of several at one place they are alike. Each piece is looked
    at once, together with at most the longest stop string's length of what was held back.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = tuple(stops)
        self._held = ""
        self.found = False
        """Whether a stop string has come. Then nothing more is handed on."""

    def feed(self, piece: str) -> str:
        """The text that may be handed on now."""
        if self.found:
            return ""
        text = self._held + piece
        places = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        first = min(places, default=len(text))
        # A stop string that begins before the found one may still be incomplete.
        open_at = next((at for at in range(self._from(text), first) if self._may_begin(text[at:])), first)
        if places and open_at == first:
            self.found, self._held = True, ""
            return text[:first]
        self._held = text[open_at:]
        return text[:open_at]

    def end(self) -> str:
        """What was held back, once the text is over."""
        held, self._held = self._held, ""
        places = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        self.found = self.found or bool(places)
        return held[: min(places)] if places else held

    def _from(self, text: str) -> int:
        """The first place at which an incomplete stop string may begin."""
        return max(0, len(text) - max(map(len, self._stops), default=1) + 1)

    def _may_begin(self, rest: str) -> bool:
        """Whether a stop string begins with `rest` and is longer."""
        return any(len(stop) > len(rest) and stop.startswith(rest) for stop in self._stops)
