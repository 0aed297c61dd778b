"""`steer` with `decide: budget` and `decide: threshold`: a step is sure where its score reaches a score.

With `threshold` that score is given, one a step index. With `budget` it is a quantile of the run's recent scores at the
same step index, so that gamma, the share of traces that go to the large model, is a cost that the user chooses.
"""

from abc import abstractmethod

import numpy as np

from steer.config.policy import SteerPolicy
from steer.mixture.bank import ScoreBank
from steer.policies.base import Bools, Floats, Indices, View
from steer.policies.by_confidence import ByConfidence
from steer.traces import Model

FRONT = 0.95
"""`budget`: this part of gamma is spent at step 0, the same part of the rest at step 1, and so on. A trace that goes to
the large model early costs less, as the small model has written less of it; a later step knows more of the trace. On
prefix tables of the shipped pair values from .75 to 1 differ by less than 2 points at equal compute, and below .95 a
trace of few steps has too few chances left for a large gamma."""
MIN_SCORES = 8
"""`budget`: with fewer recent scores no quantile is taken and every trace is sure, as with a mixture's `min_fit`."""


class ByScore(ByConfidence):
    """A step is sure where its score reaches the threshold of its index. There is no posterior."""

    def __init__(self, config: SteerPolicy):
        super().__init__(config)
        self.finishes = not config.hands_back

    @abstractmethod
    def threshold(self, view: View, step: int) -> float:
        """The least score of a sure step at this index."""

    def decision(self, view: View, step: int, rows_N: Indices, draft: bool) -> tuple[Bools, Floats]:
        scores = view.scores[step]
        sure_N = scores.conf_L[rows_N] >= self.threshold(view, step)  # a step without a score is not sure
        if self.finishes:
            sure_N &= scores.model_L[rows_N] == Model.SMALL
        return sure_N, np.full(len(rows_N), np.nan)


class ByThreshold(ByScore):
    """`decide: threshold`. A decision reads the trace's own scores alone, so no trace waits for another."""

    barrier = False

    def __init__(self, config: SteerPolicy):
        super().__init__(config)
        self._thresholds = config.thresholds or ()

    def threshold(self, view: View, step: int) -> float:
        return self._thresholds[min(step, len(self._thresholds) - 1)]


class ByBudget(ByScore):
    """`decide: budget`: the lowest share of the recent scores at a step index is unsure.

    After step i, gamma (1 - (1 - FRONT)^(i+1)) of the traces have gone to the large model. So of the traces that are
    still the small model's at step i the share to send is

        p_i = gamma FRONT (1 - FRONT)^i / (1 - gamma (1 - (1 - FRONT)^i)).
    """

    def __init__(self, config: SteerPolicy, bank: ScoreBank):
        super().__init__(config)
        self._gamma, self._bank, self._scope = config.gamma, bank, f"{config.measure} budget"
        self._banked: dict[int, Bools] = {}
        """By step index: the traces [L] whose score was added."""

    def threshold(self, view: View, step: int) -> float:
        if self._gamma <= 0 or self._gamma >= 1:
            return -np.inf if self._gamma <= 0 else np.inf
        scores = view.scores[step]
        banked_L = self._banked.setdefault(step, np.zeros(len(scores.conf_L), bool))
        # Traces that have ended stay out: a last step is short and sure, whatever the trace.
        new_L = np.isfinite(scores.conf_L) & scores.ongoing_L & (scores.model_L == Model.SMALL) & ~banked_L
        self._bank.add(step, scores.conf_L[new_L], self._scope)
        banked_L |= new_L
        recent = self._bank.scores(step, self._scope)
        return float(np.quantile(recent, share_at(self._gamma, step))) if len(recent) >= MIN_SCORES else -np.inf

    def forget(self, trace: int) -> None:
        for banked_L in self._banked.values():
            banked_L[trace] = False


def share_at(gamma: float, step: int) -> float:
    """The share of the small model's traces that `budget` sends to the large model after step `step`."""
    left = (1 - FRONT) ** step
    return gamma * FRONT * left / (1 - gamma * (1 - left))
