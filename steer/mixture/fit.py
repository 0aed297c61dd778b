"""The mixtures of one routing group: which scores a step is fitted on, and what happens when no fit is possible.

Invariant: `Mixtures.fit` always answers. A step that cannot be fitted takes the group's last good fit (`reused`);
before the first good fit every trace counts as confident (`degenerate`). Each group has its own `Mixtures` object, and
all groups of a run and policy setting share one `ScoreBank`.
"""

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from steer.config.policy import MixtureOptions
from steer.mixture.bank import ScoreBank
from steer.mixture.frozen import FrozenMixtures
from steer.mixture.gaussians import PARAMETERS, Mixture, fit_mixture
from steer.traces import Model

POOLED = "pooled"
"""The scope of one mixture for both models."""
PER_MODEL = tuple(model.label for model in Model)
"""The scopes of one mixture for each model, in the order of `Model`."""
BANKED = ("bank", "all_steps")
"""Values of `fit_from` that read the `ScoreBank`."""


class FitRule(StrEnum):
    """Where a step's mixture came from."""

    FRESH = "fresh"
    """Fitted on this step's scores."""
    REUSED = "reused"
    """The last good fit of the group, or a frozen one."""
    DEGENERATE = "degenerate"
    """There is no mixture: every trace counts as confident."""


@dataclass(frozen=True)
class StepFit:
    """The mixtures of one step by scope: `pooled`, or `small` and `large` (the model that wrote the step)."""

    measure: str
    mixtures: dict[str, Mixture | None]
    rules: dict[str, FitRule]
    fit_ms: dict[str, float]
    """Milliseconds that the fit took; 0 if none was tried."""
    inversions: dict[str, int]
    """Neighbours in score order whose literal posterior falls, among the scores that a fit of this step uses."""

    @property
    def population(self) -> int:
        """Scores in the mixtures that were fitted on this step; 0 if none was."""
        return sum(
            mixture.n
            for scope, mixture in self.mixtures.items()
            if mixture is not None and self.rules[scope] == FitRule.FRESH
        )

    def posterior(
        self, scores_L: npt.NDArray[np.float64], model_L: npt.NDArray[np.integer], monotone: bool
    ) -> npt.NDArray[np.float64]:
        """Pr(confident | score) as float64 [L] under the mixture of the model that wrote each step.

        1 where there is no mixture, NaN where a score is not finite.
        """
        if POOLED in self.mixtures:
            return _posterior(self.mixtures[POOLED], scores_L, monotone)
        posterior_L = np.full(len(scores_L), np.nan)
        for model in Model:
            by_model_L = np.asarray(model_L) == model
            posterior_L[by_model_L] = _posterior(self.mixtures[model.label], np.asarray(scores_L)[by_model_L], monotone)
        return posterior_L

    def rows(self, step: int, draft: bool) -> list[dict[str, Any]]:
        """A row for each mixture, MIXTURE_STRUCT without `group_id`. Parameters are None if there is no mixture."""
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

    `measure`: the measure of the scores; None: `options.measure`. `bank`: needed by `fit_from: bank` and `all_steps`.
    `frozen`: needed by `fit_from: frozen`. `seed` draws the subsample of a large fit. Raises ValueError if what
    `fit_from` needs is missing.
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
        scores_L: npt.NDArray[np.float64],
        model_L: npt.NDArray[np.integer],
        ongoing_L: npt.NDArray[np.bool_],
        fresh_L: npt.NDArray[np.bool_] | None = None,
    ) -> StepFit:
        """The mixtures of step index `step`, over all traces of the group.

        scores_L: not finite where a trace has not answered this step or has no score. model_L: the `Model` that wrote
        the step. ongoing_L: whether the trace goes on after this step. fresh_L: the scores to add to the bank; None:
        all. If a step is fitted again as answers come in, `fresh_L` must name only the new ones.
        """
        scores_L, model_L = np.asarray(scores_L, np.float64), np.asarray(model_L)
        answered_L = np.isfinite(scores_L)
        if fresh_L is None:
            fresh_L = answered_L
        self.note(step, scores_L, model_L, ongoing_L, fresh_L)
        fit = StepFit(self._measure, {}, {}, {}, {})
        for scope in self._scopes:
            member_L = answered_L if scope == POOLED else answered_L & (model_L == PER_MODEL.index(scope))
            population = self._population(step, scope, scores_L, member_L, ongoing_L)
            started = time.perf_counter()
            mixture, rule = self._fit(step, scope, population)
            fit.fit_ms[scope] = (time.perf_counter() - started) * 1e3 if self._options.fit_from != "frozen" else 0.0
            fit.mixtures[scope], fit.rules[scope] = mixture, rule
            fit.inversions[scope] = 0 if mixture is None else mixture.inversions(population)
        return fit

    def note(
        self,
        step: int,
        scores_L: npt.NDArray[np.float64],
        model_L: npt.NDArray[np.integer],
        ongoing_L: npt.NDArray[np.bool_],
        fresh_L: npt.NDArray[np.bool_],
    ) -> None:
        """Add the scores `fresh_L` of a step to the bank, without a fit. The others as of `fit`.

        Traces that have ended stay out: nothing is routed after a last step, and its scores differ in kind.
        """
        if self._bank is None or self._options.fit_from not in BANKED:
            return
        for scope in self._scopes:
            member_L = fresh_L & ongoing_L
            if scope != POOLED:
                member_L &= np.asarray(model_L) == PER_MODEL.index(scope)
            self._bank.add(step, np.asarray(scores_L)[member_L], self._apart(scope))

    def _apart(self, scope: str) -> str:
        """Name of the scope's scores in the bank."""
        return f"{self._measure} {scope}"

    def _population(
        self,
        step: int,
        scope: str,
        scores_L: npt.NDArray[np.float64],
        member_L: npt.NDArray[np.bool_],
        ongoing_L: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """The scores [n] that a step is fitted on."""
        ongoing_L = member_L & ongoing_L
        if self._bank is not None and self._options.fit_from in BANKED:
            apart = self._apart(scope)
            return self._bank.scores(step, apart) if self._options.fit_from == "bank" else self._bank.all_scores(apart)
        return scores_L[ongoing_L if ongoing_L.sum() >= self._options.min_fit else member_L]

    def _fit(self, step: int, scope: str, population: npt.NDArray[np.float64]) -> tuple[Mixture | None, FitRule]:
        if self._frozen is not None and self._options.fit_from == "frozen":
            mixture = self._frozen.at(step, scope)
        else:
            mixture = fit_mixture(population, self._seed)
            if mixture is not None:
                self._last[scope] = mixture
                return mixture, FitRule.FRESH
            mixture = self._last.get(scope)
        return mixture, FitRule.DEGENERATE if mixture is None else FitRule.REUSED


def _posterior(mixture: Mixture | None, scores_L: npt.NDArray[np.float64], monotone: bool) -> npt.NDArray[np.float64]:
    return np.ones(len(scores_L)) if mixture is None else mixture.posterior(scores_L, monotone)
