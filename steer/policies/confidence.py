"""Policies that route each step by the confidence of the one before it: `steer` and `percentile`.

They share Algorithm 1's order of events (method.md, Routing); they differ only in how scores become a verdict.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from steer.bank import DRAFT_INDEX
from steer.mixture import Mixtures, StepFit
from steer.policies.base import Act, StepScores, View
from steer.policy_config import PercentilePolicy, Scored, SteerPolicy
from steer.traces import MEASURES, Model

REFIT_SHARE = 0.1
"""Rolling barrier: a step's verdict is fitted anew once so many more of the group's scores of it have arrived, as a
share of the scores it was fitted on: a fit costs milliseconds, and fewer arrivals hardly move it. Of a bank's 512 that
is 52: with a share of the group's own, however few, fits took half the run at 512 live traces."""


class ByConfidence(ABC):
    """Draft step 0, refine it where unsure, then route step i by the verdict on step i-1."""

    whole = False
    finishes = False
    also = None
    barrier = True
    signal = None

    def __init__(self, config: Scored):
        self.measure = MEASURES.index(config.measure)
        self.scored_by_small = config.scored_by == "small"
        self.drafts = config.refine
        self.ahead = config.ahead

    @abstractmethod
    def verdict(self, view: View, step: int, rows_N: np.ndarray, draft: bool) -> tuple[np.ndarray, np.ndarray]:
        """(sure [N] bool, posterior [N]) of the traces `rows_N` after step `step`; `draft`: some may be rewritten."""

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        acts_N = np.full(len(ready_N), Act.SMALL, np.int8)
        posterior_N = np.full(len(ready_N), np.nan)
        steps_N = view.step_L[ready_N]
        for step in np.unique(steps_N):
            if step < 0:
                continue  # Algorithm 1: the small model answers every question first
            at_N = np.flatnonzero(steps_N == step)
            rows_N = ready_N[at_N]
            draft_N = view.draft_L[rows_N]
            sure_N, posterior = self.verdict(view, int(step), rows_N, draft=bool(draft_N.any()))
            posterior_N[at_N] = posterior
            acts_N[at_N] = np.where(sure_N, Act.SMALL, Act.LARGE)
            rewrite_N = draft_N & ~sure_N
            if rewrite_N.any():
                acts_N[at_N[rewrite_N]] = Act.REWRITE
                if view.strict:  # the step is not over: its kept scores are fitted again when the rewrites are in
                    acts_N[at_N[~rewrite_N]] = Act.KEEP
        return acts_N, posterior_N

    def mixtures(self) -> list[dict]:
        return []


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

    def verdict(self, view: View, step: int, rows_N: np.ndarray, draft: bool) -> tuple[np.ndarray, np.ndarray]:
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


class Percentile(ByConfidence):
    """The lowest `percent` of the live traces at each step are unsure (Fig. 3)."""

    def __init__(self, config: PercentilePolicy):
        super().__init__(config)
        self.percent = config.percent

    def verdict(self, view: View, step: int, rows_N: np.ndarray, draft: bool) -> tuple[np.ndarray, np.ndarray]:
        scores = view.scores[step]
        conf_N = scores.conf_L[rows_N]
        pool = scores.conf_L[scores.ongoing_L & np.isfinite(scores.conf_L)]
        if self.percent <= 0 or not len(pool):
            return np.full(len(rows_N), self.percent <= 0), np.full(len(rows_N), np.nan)
        if self.percent >= 100:
            return np.zeros(len(rows_N), bool), np.full(len(rows_N), np.nan)
        return conf_N > np.quantile(pool, self.percent / 100), np.full(len(rows_N), np.nan)
