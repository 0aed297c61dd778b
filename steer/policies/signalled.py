"""The base of policies that route by a signal of another model: `rsd`, `spec_reason` and `query_router`.

Invariant: a signal that cannot be had counts as low, so the large model takes over. (The model that gives the signal
cannot always read the text: it may be too long.)
"""

from typing import Any

from steer.messages import Op
from steer.policies.base import Bools, Indices, Signal, View
from steer.traces import Role

SIGNALS = {
    "rsd": Signal(Role.PRM, Op.REWARD),
    "spec_reason": Signal(Role.JUDGE, Op.JUDGE),
    "query_router": Signal(Role.QUERY, Op.SOLVE),
}
"""What a policy asks for, by the policy's name."""


class Signalled:
    """No confidence, no barrier: the signal is compared with a threshold. A subclass sets `whole` and `drafts`."""

    ahead: bool = False
    peeks: bool = False
    finishes: bool = False
    measure: int | None = None
    also: int | None = None
    scored_by_small: bool = False
    barrier: bool = False

    def __init__(self, threshold: float, signal: Signal):
        self._threshold = threshold
        self.signal: Signal | None = signal

    def trusted(self, view: View, rows_N: Indices) -> Bools:
        """Whether the signal reaches the threshold, bool [N]."""
        reached_N: Bools = view.signal_L[rows_N] >= self._threshold  # False for NaN
        return reached_N

    def mixtures(self) -> list[dict[str, Any]]:
        return []
