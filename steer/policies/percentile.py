"""`percentile`: the least confident share of the live traces."""

import numpy as np

from steer.config.policy import PercentilePolicy
from steer.policies.base import View
from steer.policies.by_confidence import ByConfidence


class Percentile(ByConfidence):
    """The lowest `percent` of the live traces at each step are unsure (Fig. 3)."""

    def __init__(self, config: PercentilePolicy):
        super().__init__(config)
        self.percent = config.percent

    def decision(self, view: View, step: int, rows_N: np.ndarray, draft: bool) -> tuple[np.ndarray, np.ndarray]:
        scores = view.scores[step]
        conf_N = scores.conf_L[rows_N]
        pool = scores.conf_L[scores.ongoing_L & np.isfinite(scores.conf_L)]
        if self.percent <= 0 or not len(pool):
            return np.full(len(rows_N), self.percent <= 0), np.full(len(rows_N), np.nan)
        if self.percent >= 100:
            return np.zeros(len(rows_N), bool), np.full(len(rows_N), np.nan)
        return conf_N > np.quantile(pool, self.percent / 100), np.full(len(rows_N), np.nan)
