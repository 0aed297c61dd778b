"""Decision rules: how validation scores become thresholds, one for each step index, at every level of a knob.

Invariant: levels go from cheap to safe. At a higher level no threshold is lower, so a question is never handed over
later. The thresholds are finite, so that a plan can hold them; `NEVER` and `ALWAYS` stand for the infinities.
"""

from typing import Literal, get_args

import numpy as np
from scipy.optimize import isotonic_regression

from steer.mixture.gaussians import Mixture, fit_mixture
from steer.plans.table import Bools, Floats

Rule = Literal["threshold", "by_step", "mixture", "mixture_by_step", "isotonic"]
RULES: tuple[Rule, ...] = get_args(Rule)
LABELLED: tuple[Rule, ...] = ("isotonic",)
"""Rules whose thresholds depend on which answers are right. The others see scores alone."""
OF_STEPS: tuple[Rule, ...] = ("mixture", "mixture_by_step")
"""Rules that are about the scores of single steps: a mixture of the lowest so far has no two kinds of steps in it."""

NEVER, ALWAYS = -1e300, 1e300
"""Thresholds at which every step is sure, and at which none is."""
SHARES: Floats = np.arange(1, 40) / 40
"""Levels of `threshold` and `by_step`: shares of the questions that are handed over, in steps of 2.5 %."""
GAMMAS = np.array([0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999])
"""Levels of the mixtures: posteriors below which a step is unsure."""
CHANCES: Floats = np.arange(1, 40) / 40
"""Levels of `isotonic`: the chance of a right answer below which a step is unsure."""
LEVELS: dict[Rule, Floats] = {
    "threshold": SHARES,
    "by_step": SHARES,
    "mixture": GAMMAS,
    "mixture_by_step": GAMMAS,
    "isotonic": CHANCES,
}
_FINE = np.arange(1, 200) / 200
"""Quantiles among which `by_step` looks for the one that hands over the share of its level."""
FEWEST = 30
"""A step index has a threshold of its own if this many questions reach it. The later ones share the last."""
_GRID, _ROUNDS = 65, 4
"""Scores at which a posterior is looked up in each round of the search for its crossing, and rounds: it is found to
64^-4 of the range."""
_ROUNDING = 1e-12
MOST_INDICES = 12
"""Thresholds of a policy at most."""


def thresholds(rule: Rule, score_QK: Floats, inside_QK: Bools, correct_Q: Bools) -> Floats:
    """Thresholds [P, I] for the levels P of the rule and the first I step indices, from validation questions.

    - `threshold`: one for all steps, so that the level is the share of questions with a step below it.
    - `by_step`: at each index the quantile of its own scores, the same share at each. The level is the share of
      questions with a step below its threshold, met as nearly as quantiles in steps of 1/2 % allow.
    - `mixture`, `mixture_by_step`: the score at which the posterior of the surer of two Gaussians reaches the level
      (steer.mixture); one fit on all steps, or one for each index.
    - `isotonic`: the score at which the chance that the small model goes on to a right answer reaches the level, by
      isotonic regression at each index.

    `correct_Q`: whether the small model's own answer is right; `isotonic` alone reads it.
    """
    used_QK = inside_QK & np.isfinite(score_QK)
    if not used_QK.any():
        return np.full((len(LEVELS[rule]), 1), ALWAYS)
    if rule == "threshold":
        lowest_Q = np.where(used_QK, score_QK, np.inf).min(axis=1)
        return _quantiles(lowest_Q[np.isfinite(lowest_Q)], SHARES)[:, None]
    if rule == "by_step":
        return _by_step(score_QK, used_QK)
    if rule == "mixture":
        return _posterior_thresholds(fit_mixture(score_QK[used_QK]))[:, None]
    parts = _indices(used_QK)
    if rule == "mixture_by_step":
        return np.stack([_posterior_thresholds(fit_mixture(score_QK[part_QK])) for part_QK in parts], axis=1)
    right_QK = np.broadcast_to(correct_Q[:, None], score_QK.shape).astype(float)
    return np.stack([_chance_thresholds(score_QK[part_QK], right_QK[part_QK]) for part_QK in parts], axis=1)


def _indices(used_QK: Bools) -> list[Bools]:
    """The steps [Q, K] at each index that has a threshold of its own; the last part has all later steps too."""
    reached_K = used_QK.sum(axis=0)
    own = max(1, min(MOST_INDICES, int((np.minimum.accumulate(reached_K) >= FEWEST).sum())))
    parts = []
    for index in range(own):
        part_QK = np.zeros_like(used_QK)
        columns = slice(index, index + 1 if index < own - 1 else None)
        part_QK[:, columns] = used_QK[:, columns]
        parts.append(part_QK)
    return parts


def _quantiles(values: Floats, shares: Floats) -> Floats:
    """Thresholds below which these shares of the values lie."""
    found: Floats = np.asarray(np.quantile(values, shares, method="linear"), np.float64)
    return found


def _by_step(score_QK: Floats, used_QK: Bools) -> Floats:
    parts = _indices(used_QK)
    candidates_UI = np.stack([_quantiles(score_QK[part_QK], _FINE) for part_QK in parts], axis=1)
    # A step is unsure from quantile number `rank` on, so the lowest rank of its steps hands a question over.
    rank_QK = np.full(score_QK.shape, len(_FINE))
    for index, part_QK in enumerate(parts):
        rank_QK[part_QK] = np.searchsorted(candidates_UI[:, index], score_QK[part_QK], side="right")
    lowest_Q = rank_QK[used_QK.any(axis=1)].min(axis=1)
    handed_U = (lowest_Q[None, :] <= np.arange(len(_FINE))[:, None]).mean(axis=1)
    chosen_P = np.abs(handed_U[None, :] - SHARES[:, None]).argmin(axis=1)
    found: Floats = candidates_UI[chosen_P]
    return found


def _posterior_thresholds(mixture: Mixture | None) -> Floats:
    """The scores at which the monotone posterior reaches each of `GAMMAS`. Where there is no mixture every step is
    sure, as in a run without a fit."""
    if mixture is None:
        return np.full(len(GAMMAS), NEVER)
    reach = 20.0 * max(mixture.sd_confident, mixture.sd_unsure) + abs(mixture.mean_confident - mixture.mean_unsure)
    middle = (mixture.mean_confident + mixture.mean_unsure) / 2
    low_P, high_P = np.full(len(GAMMAS), middle - reach), np.full(len(GAMMAS), middle + reach)
    always_P = mixture.posterior(high_P, monotone=True) < GAMMAS
    never_P = mixture.posterior(low_P, monotone=True) >= GAMMAS
    for _ in range(_ROUNDS):
        grid_PG = low_P[:, None] + (high_P - low_P)[:, None] * np.linspace(0.0, 1.0, _GRID)
        reached_PG = mixture.posterior(grid_PG, monotone=True) >= GAMMAS[:, None]
        reached_PG[:, -1] = True
        at_P = reached_PG.argmax(axis=1).clip(min=1)
        low_P, high_P = (np.take_along_axis(grid_PG, at[:, None], 1)[:, 0] for at in (at_P - 1, at_P))
    return np.where(always_P, ALWAYS, np.where(never_P, NEVER, high_P))


def _chance_thresholds(score: Floats, right: Floats) -> Floats:
    """The lowest of the scores whose fitted chance of a right answer reaches each of `CHANCES`."""
    values, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=right) / counts
    fitted = isotonic_regression(means, weights=counts).x
    at_P = np.searchsorted(fitted + _ROUNDING, CHANCES, side="left")
    return np.where(at_P == 0, NEVER, np.append(values, ALWAYS)[at_P])
