"""`percentile`: the large model gets the least confident share of the live traces."""

import numpy as np

from steer.config.policy import PercentilePolicy
from steer.policies.base import Bools, Floats, Indices, View
from steer.policies.by_confidence import ByConfidence


class Percentile(ByConfidence):
    """At each step the lowest `percent` of the live traces are unsure (Fig. 3)."""

    def __init__(self, config: PercentilePolicy):
        super().__init__(config)
        self.percent = config.percent

    def decision(self, view: View, step: int, rows_N: Indices, draft: bool) -> tuple[Bools, Floats]:
        scores = view.scores[step]
        conf_N = scores.conf_L[rows_N]
        pool = scores.conf_L[scores.ongoing_L & np.isfinite(scores.conf_L)]
        if self.percent <= 0 or not len(pool):
            return np.full(len(rows_N), self.percent <= 0), np.full(len(rows_N), np.nan)
        if self.percent >= 100:
            return np.zeros(len(rows_N), bool), np.full(len(rows_N), np.nan)
        return conf_N > np.quantile(pool, self.percent / 100), np.full(len(rows_N), np.nan)
