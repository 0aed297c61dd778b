"""The mixtures of one routing group: which scores a step is fitted on, and what happens when they cannot be.

Invariant: `fit` always answers. A step that cannot be fitted takes the group's last good fit (`reused`); before the
first one every trace counts as confident (`degenerate`). One object a group; groups share a `ScoreBank`.
"""

import time
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from steer.config.policy import MixtureOptions
from steer.mixture.bank import ScoreBank
from steer.mixture.frozen import FrozenMixtures
from steer.mixture.gaussians import PARAMETERS, Mixture, fit_mixture
from steer.traces import Model

__all__ = ["FitRule", "FrozenMixtures", "Mixture", "Mixtures", "ScoreBank", "StepFit", "fit_mixture"]

POOLED = "pooled"
BANKED = ("bank", "all_steps")
PER_MODEL = tuple(model.label for model in Model)


class FitRule(StrEnum):
    """Where a step's mixture came from."""

    FRESH = "fresh"
    """Fitted on this step's scores."""
    REUSED = "reused"
    """The last good fit of the group, or a frozen one."""
    DEGENERATE = "degenerate"
    """There is none: every trace counts as confident."""


@dataclass(frozen=True)
class StepFit:
    """The mixtures of one step: keyed `pooled`, or `small` and `large` (the model that wrote the step)."""

    measure: str
    mixtures: dict[str, Mixture | None]
    rules: dict[str, FitRule]
    fit_ms: dict[str, float]
    """Milliseconds that the fit took; 0 where none was tried."""
    inversions: dict[str, int]
    """Neighbours in score order whose literal posterior falls, among the scores that were fitted or would have been."""

    @property
    def population(self) -> int:
        """Scores that went into what was fitted now; 0 where nothing was."""
        fitted = (mixture for scope, mixture in self.mixtures.items() if self.rules[scope] == FitRule.FRESH)
        return sum(mixture.n for mixture in fitted)

    def posterior(self, scores_L: np.ndarray, model_L: np.ndarray, monotone: bool) -> np.ndarray:
        """Pr(confident | score) as float64 [L] under the mixture of the model that wrote each step; 1 where there is no
        mixture, NaN where a score is not finite."""
        if POOLED in self.mixtures:
            return _posterior(self.mixtures[POOLED], scores_L, monotone)
        posterior_L = np.full(len(scores_L), np.nan)
        for model in Model:
            by_model_L = np.asarray(model_L) == model
            posterior_L[by_model_L] = _posterior(self.mixtures[model.label], np.asarray(scores_L)[by_model_L], monotone)
        return posterior_L

    def rows(self, step: int, draft: bool) -> list[dict]:
        """One row a mixture, MIXTURE_STRUCT without `group`; parameters are null where there is no mixture."""
        return [
            {
                "step": step,
                "draft": draft,
                "scope": scope,
                "measure": self.measure,
                "n": 0 if mixture is None else mixture.n,
                **{name: None if mixture is None else getattr(mixture, name) for name in PARAMETERS},
                "rule": self.rules[scope].value,
                "fit_ms": self.fit_ms[scope],
                "inversions": self.inversions[scope],
            }
            for scope, mixture in self.mixtures.items()
        ]


class Mixtures:
    """Fits one step after another for one group.

    `measure`: of the scores, none: `options.measure`. `bank` is needed by `fit_from: bank` and `all_steps`, `frozen` by
    `fit_from: frozen`; `seed` draws the subsample of a large fit.
    """

    def __init__(
        self,
        options: MixtureOptions,
        measure: str | None = None,
        bank: ScoreBank | None = None,
        frozen: FrozenMixtures | None = None,
        seed: int = 0,
    ):
        self._scopes = (POOLED,) if options.scope == "pooled" else PER_MODEL
        if options.fit_from in BANKED and bank is None:
            raise ValueError(f"fit_from: {options.fit_from} needs the ScoreBank that the groups of the run share")
        if options.fit_from == "frozen":
            if frozen is None:
                raise ValueError("fit_from: frozen needs the FrozenMixtures loaded from frozen_path")
            frozen.require(self._scopes)
        self._measure = measure or options.measure
        self._options, self._bank, self._frozen, self._seed = options, bank, frozen, seed
        self._last: dict[str, Mixture] = {}

    def fit(
        self,
        step: int,
        scores_L: np.ndarray,
        model_L: np.ndarray,
        ongoing_L: np.ndarray,
        fresh_L: np.ndarray | None = None,
    ) -> StepFit:
        """The mixtures of step index `step`, over all traces of the group.

        scores_L: float64, not finite where a trace has not answered this step or has no score. model_L: who wrote it
        (`Model`). ongoing_L: bool, did not end at or before this step. fresh_L: bool, scores to add to the bank; all of
        them if None. A step that is fitted again as answers come in must name only the new ones.
        """
        scores_L, model_L = np.asarray(scores_L, np.float64), np.asarray(model_L)
        answered_L = np.isfinite(scores_L)
        if fresh_L is None:
            fresh_L = answered_L
        fit = StepFit(self._measure, {}, {}, {}, {})
        for scope in self._scopes:
            member_L = answered_L if scope == POOLED else answered_L & (model_L == PER_MODEL.index(scope))
            population = self._population(step, scope, scores_L, member_L, ongoing_L, fresh_L)
            started = time.perf_counter()
            mixture, rule = self._fit(step, scope, population)
            fit.fit_ms[scope] = (time.perf_counter() - started) * 1e3 if self._options.fit_from != "frozen" else 0.0
            fit.mixtures[scope], fit.rules[scope] = mixture, rule
            fit.inversions[scope] = 0 if mixture is None else mixture.inversions(population)
        return fit

    def _population(self, step, scope, scores_L, member_L, ongoing_L, fresh_L) -> np.ndarray:
        ongoing_L = member_L & ongoing_L
        if self._options.fit_from in BANKED:
            # Ended traces stay out here too: nothing is routed after a last step, and its scores are of another kind.
            apart = f"{self._measure} {scope}"
            self._bank.add(step, scores_L[ongoing_L & fresh_L], apart)
            return self._bank.scores(step, apart) if self._options.fit_from == "bank" else self._bank.all_scores(apart)
        return scores_L[ongoing_L if ongoing_L.sum() >= self._options.min_fit else member_L]

    def _fit(self, step: int, scope: str, population: np.ndarray) -> tuple[Mixture | None, FitRule]:
        if self._options.fit_from == "frozen":
            mixture = self._frozen.at(step, scope)
        else:
            mixture = fit_mixture(population, self._seed)
            if mixture is not None:
                self._last[scope] = mixture
                return mixture, FitRule.FRESH
            mixture = self._last.get(scope)
        return mixture, FitRule.DEGENERATE if mixture is None else FitRule.REUSED


def _posterior(mixture: Mixture | None, scores_L: np.ndarray, monotone: bool) -> np.ndarray:
    return np.ones(len(scores_L)) if mixture is None else mixture.posterior(scores_L, monotone)
