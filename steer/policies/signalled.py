"""Policies that route by another model's word: `rsd`, `spec_reason` and `query_router`.

A signal that cannot be had (the text does not fit the model that gives it) is a low one: the large model takes over.
"""

import numpy as np

from steer.messages import Op
from steer.policies.base import Signal, View
from steer.traces import Role

SIGNALS = {
    "rsd": Signal(Role.PRM, Op.REWARD),
    "spec_reason": Signal(Role.JUDGE, Op.JUDGE),
    "query_router": Signal(Role.QUERY, Op.SOLVE),
}
"""By the policy's name."""


class Signalled:
    ahead = finishes = False
    measure = also = None
    scored_by_small = False
    barrier = False

    def __init__(self, threshold: float, signal: Signal):
        self._threshold = threshold
        self.signal = signal

    def trusted(self, view: View, rows_N: np.ndarray) -> np.ndarray:
        """Whether the signal reaches the threshold, bool [N]."""
        return view.signal_L[rows_N] >= self._threshold  # False for NaN

    def mixtures(self) -> list[dict]:
        return []
