"""The base of policies that read no confidence: one model alone, or a coin."""

from typing import Any

from steer.policies.base import Drafts, Signal


class Blind:
    """No confidence, no drafts, no barrier. A subclass sets `whole` and decides."""

    whole: bool
    ahead: bool = False
    peeks: bool = False
    finishes: bool = False
    measure: int | None = None
    also: int | None = None
    scored_by_small: bool = False
    drafts: Drafts = "never"
    signal: Signal | None = None
    barrier: bool = False

    def mixtures(self) -> list[dict[str, Any]]:
        return []
