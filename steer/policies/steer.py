"""`steer`: the mixture's posterior is compared with gamma (Eq. 10)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from steer.config.policy import SteerPolicy
from steer.mixture.bank import DRAFT_INDEX
from steer.mixture.fit import Mixtures, StepFit
from steer.policies.base import Bools, Floats, Indices, StepScores, View
from steer.policies.by_confidence import ByConfidence
from steer.traces import MEASURES, Model

REFIT_SHARE = 0.1
"""Rolling barrier: a step is fitted again once this share of new scores has arrived, relative to the scores of its last
fit. A fit costs milliseconds, and fewer new scores hardly move it. A fit on a bank of 512 scores waits for 52 new ones.
When the share was taken of the group's own scores alone, fits took half of a run at 512 live traces."""


class Steer(ByConfidence):
    """A step is sure where its posterior reaches gamma. With two measures the smaller of their posteriors counts."""

    def __init__(self, config: SteerPolicy, mixtures: Sequence[Mixtures]):
        """`mixtures`: one for `config.measure`, then one for `config.also` if that names a measure."""
        super().__init__(config)
        self.also = MEASURES.index(config.also) if config.also else None
        self.gamma = config.gamma
        self.hysteresis = config.hysteresis
        self.finishes = config.gamma + config.hysteresis > 1
        self.monotone = config.monotone
        self._fits = [_MeasureFits(of_measure) for of_measure in mixtures]

    def decision(self, view: View, step: int, rows_N: Indices, draft: bool) -> tuple[Bools, Floats]:
        scores = view.scores[step]
        posterior_N = np.full(len(rows_N), np.inf)
        for fits, conf_L in zip(self._fits, (scores.conf_L, scores.also_L), strict=False):
            fit = fits.at(view, step, scores, conf_L, draft)
            by_measure_N = fit.posterior(conf_L[rows_N], scores.model_L[rows_N], self.monotone)
            posterior_N = np.minimum(posterior_N, by_measure_N)  # NaN where either is NaN
        needed_N = self.gamma + self.hysteresis * (scores.model_L[rows_N] == Model.LARGE)
        # A NaN posterior (no finite score) is not sure: the large model takes over.
        return posterior_N >= needed_N, posterior_N

    def forget(self, trace: int) -> None:
        for fits in self._fits:
            fits.forget(trace)

    def mixtures(self) -> list[dict[str, Any]]:
        return [row for fits in self._fits for row in fits.take_rows()]


class _MeasureFits:
    """The fits of one measure. Remembers what was fitted and which scores the bank has already."""

    def __init__(self, mixtures: Mixtures):
        self._mixtures = mixtures
        self._fits: dict[tuple[int, bool], tuple[int, StepFit]] = {}
        """By step and draft: the scores that had arrived when it was fitted, and the fit."""
        self._banked: dict[int, Bools] = {}
        """By step index of the bank: the traces [L] whose score was added."""
        self._arrived: dict[int, int] = {}
        """Of a group that admits while it runs, by step index of the bank: scores that have arrived so far."""
        self._rows: list[dict[str, Any]] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"_arrived": {}, **state})  # a journal of an earlier version has none

    def at(self, view: View, step: int, scores: StepScores, conf_L: Floats, draft: bool) -> StepFit:
        """The mixtures of a step, fitted again if enough new scores have arrived."""
        index = DRAFT_INDEX if draft and step == 0 else step
        banked_L = self._banked.setdefault(index, np.zeros(len(conf_L), bool))
        fresh_L = np.isfinite(conf_L) & ~banked_L & (draft | ~view.draft_L)
        answered = int(np.isfinite(conf_L).sum())
        if getattr(view, "admits", False):
            # Banked at once: another trace may have the place before the next fit.
            self._mixtures.note(index, conf_L, scores.model_L, scores.ongoing_L, fresh_L)
            self._arrived[index] = answered = self._arrived.get(index, 0) + int(fresh_L.sum())
            banked_L |= fresh_L
            fresh_L = np.zeros_like(fresh_L)
        if not view.strict and (step, draft) in self._fits:
            fitted, fit = self._fits[step, draft]
            if answered - fitted < REFIT_SHARE * max(fitted, fit.population):
                return fit
        fit = self._mixtures.fit(index, conf_L, scores.model_L, scores.ongoing_L, fresh_L)
        banked_L |= fresh_L
        if view.strict:  # no earlier step is asked about again
            self._fits.clear()
        self._fits[step, draft] = (answered, fit)
        self._rows += fit.rows(step, draft)
        return fit

    def forget(self, trace: int) -> None:
        """Note that another question takes the trace's place."""
        for banked_L in self._banked.values():
            banked_L[trace] = False

    def take_rows(self) -> list[dict[str, Any]]:
        """The rows of `mixtures/` since the last call."""
        rows, self._rows = self._rows, []
        return rows


PARTS = (_MeasureFits,)
"""The classes of the objects that a `Steer` holds, beside those of `steer.mixture`."""
