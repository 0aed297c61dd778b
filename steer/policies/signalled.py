"""Policies that route by another model's word: `rsd`, `spec_reason` and `query_router`.

A signal that cannot be had (the text does not fit the model that gives it) is a low one: the large model takes over.
"""

import numpy as np

from steer.policies.base import Act, Signal, View
from steer.traces import Seat
from steer.work import Op

SIGNALS = {
    "rsd": Signal(Seat.PRM, Op.REWARD),
    "spec_reason": Signal(Seat.JUDGE, Op.JUDGE),
    "query_router": Signal(Seat.QUERY, Op.SOLVE),
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


class DraftAndVerify(Signalled):
    """The small model drafts every step; below the threshold the large model writes it again, kept without a check."""

    whole = False
    drafts = "every"

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        unasked_N = view.draft_L[ready_N] & ~view.signalled_L[ready_N]
        refused_N = view.draft_L[ready_N] & ~self.trusted(view, ready_N)
        acts_N = np.select([unasked_N, refused_N], [Act.SIGNAL, Act.REWRITE], Act.SMALL)
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)


class RouteByQuestion(Signalled):
    """Each question wholly to the model that the signal on its prompt calls for."""

    whole = True
    drafts = "never"

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        acts_N = np.where(self.trusted(view, ready_N), Act.SMALL, Act.LARGE)
        acts_N[~view.signalled_L[ready_N]] = Act.SIGNAL
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
