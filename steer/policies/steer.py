"""`steer`: the mixture's posterior against gamma."""

from collections.abc import Sequence

import numpy as np

from steer.config.policy import SteerPolicy
from steer.mixture.bank import DRAFT_INDEX
from steer.mixture.fit import Mixtures, StepFit
from steer.policies.base import StepScores, View
from steer.policies.by_confidence import ByConfidence
from steer.traces import MEASURES, Model

REFIT_SHARE = 0.1
"""Rolling barrier: a step's decision is fitted anew once so many more of the group's scores of it have arrived, as a
share of the scores it was fitted on: a fit costs milliseconds, and fewer arrivals hardly move it. Of a bank's 512 that
is 52: with a share of the group's own, however few, fits took half the run at 512 live traces."""


class Steer(ByConfidence):
    """The mixture's posterior against gamma (Eq. 10); with a second measure the smaller of two posteriors."""

    def __init__(self, config: SteerPolicy, mixtures: Sequence[Mixtures]):
        """`mixtures`: of `config.measure`, and of `config.also` where it names one."""
        super().__init__(config)
        self.also = MEASURES.index(config.also) if config.also else None
        self.gamma = config.gamma
        self.hysteresis = config.hysteresis
        self.finishes = config.gamma + config.hysteresis > 1
        self.monotone = config.monotone
        self._fitted = [_Fitted(mine) for mine in mixtures]

    def decision(self, view: View, step: int, rows_N: np.ndarray, draft: bool) -> tuple[np.ndarray, np.ndarray]:
        scores = view.scores[step]
        posterior_N = np.full(len(rows_N), np.inf)
        for fitted, conf_L in zip(self._fitted, (scores.conf_L, scores.also_L), strict=False):
            fit = fitted.at(view, step, scores, conf_L, draft)
            by_one_N = fit.posterior(conf_L[rows_N], scores.model_L[rows_N], self.monotone)
            posterior_N = np.minimum(posterior_N, by_one_N)  # NaN where one is
        needed_N = self.gamma + self.hysteresis * (scores.model_L[rows_N] == Model.LARGE)
        # A NaN posterior (no finite score) is not sure: the large model takes over.
        return posterior_N >= needed_N, posterior_N

    def mixtures(self) -> list[dict]:
        return [row for fitted in self._fitted for row in fitted.taken()]


class _Fitted:
    """The fits of one measure: which scores are new to the bank, and what was fitted already."""

    def __init__(self, mixtures: Mixtures):
        self._mixtures = mixtures
        self._fits: dict[tuple[int, bool], tuple[int, StepFit]] = {}
        self._banked: dict[int, np.ndarray] = {}
        self._rows: list[dict] = []

    def at(self, view: View, step: int, scores: StepScores, conf_L: np.ndarray, draft: bool) -> StepFit:
        """The mixtures of a step, fitted anew where enough has arrived."""
        answered = int(np.isfinite(conf_L).sum())
        if not view.strict and (step, draft) in self._fits:
            fitted, fit = self._fits[step, draft]
            if answered - fitted < REFIT_SHARE * max(fitted, fit.population):
                return fit
        index = DRAFT_INDEX if draft and step == 0 else step
        banked_L = self._banked.setdefault(index, np.zeros(len(conf_L), bool))
        fresh_L = np.isfinite(conf_L) & ~banked_L & (draft | ~view.draft_L)
        fit = self._mixtures.fit(index, conf_L, scores.model_L, scores.ongoing_L, fresh_L)
        banked_L |= fresh_L
        if view.strict:  # no earlier step is asked about again
            self._fits.clear()
        self._fits[step, draft] = (answered, fit)
        self._rows += fit.rows(step, draft)
        return fit

    def taken(self) -> list[dict]:
        """The rows of `mixtures/` since the last call."""
        rows, self._rows = self._rows, []
        return rows
