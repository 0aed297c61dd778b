"""Policies that read no confidence: one model alone, or a coin."""


class Blind:
    """No confidence, no drafts, no barrier: a subclass says `whole` and decides."""

    ahead = finishes = False
    measure = also = None
    scored_by_small = False
    drafts = "never"
    signal = None
    barrier = False

    def mixtures(self) -> list[dict]:
        return []
