"""Decision rules: from scores to thresholds."""

import numpy as np
import pytest
from prefix_tables import made_table

from steer.mixture.gaussians import fit_mixture
from steer.plans.handover import first_unsure
from steer.plans.rules import ALWAYS, GAMMAS, LEVELS, NEVER, RULES, SHARES, thresholds


@pytest.fixture(scope="module")
def table():
    return made_table(400, seed=2)


def fitted(table, rule, key=("margin", "mean")):
    return thresholds(rule, table.scores[key], table.inside_QK, table.small_correct_Q)


@pytest.mark.parametrize("rule", RULES)
def test_a_higher_level_never_hands_over_later(table, rule):
    thresholds_TI = fitted(table, rule)
    assert thresholds_TI.shape[0] == len(LEVELS[rule]) and np.isfinite(thresholds_TI).all()
    assert (np.diff(thresholds_TI, axis=0) >= 0).all()


@pytest.mark.parametrize(("rule", "off"), [("threshold", 0.003), ("by_step", 0.03)])
def test_the_level_is_the_share_that_is_handed_over(table, rule, off):
    score_QK = table.scores["margin", "mean"]
    first_TQ = first_unsure(score_QK, table.inside_QK, fitted(table, rule))
    np.testing.assert_allclose((first_TQ < score_QK.shape[1]).mean(axis=1), SHARES, atol=off)


def test_a_mixtures_threshold_is_where_its_posterior_reaches_gamma(table):
    score_QK = table.scores["margin", "mean"]
    mixture = fit_mixture(score_QK[table.inside_QK])
    (threshold_T,) = fitted(table, "mixture").T
    crossed = (threshold_T > NEVER) & (threshold_T < ALWAYS)
    assert crossed.sum() > 5
    near = np.stack([threshold_T - 1e-4, threshold_T])[:, crossed]
    below, at = mixture.posterior(near, monotone=True)
    assert (below < GAMMAS[crossed]).all() and (at >= GAMMAS[crossed]).all()


def test_isotonic_thresholds_part_the_right_from_the_wrong():
    score_QK = np.arange(40.0)[:, None]
    right_Q = np.arange(40) >= 25
    thresholds_TI = thresholds("isotonic", score_QK, np.ones((40, 1), bool), right_Q)
    assert (thresholds_TI == 25.0).all()


def test_steps_that_few_questions_reach_share_a_threshold(table):
    reached_K = table.inside_QK.sum(axis=0)
    assert fitted(table, "by_step").shape[1] == (reached_K >= 30).sum() < table.tokens_QK.shape[1]


@pytest.mark.parametrize("rule", RULES)
def test_scores_that_say_nothing_hand_everything_over(rule):
    nothing_QK = np.full((20, 2), np.nan)
    assert (thresholds(rule, nothing_QK, np.ones((20, 2), bool), np.ones(20, bool)) == ALWAYS).all()
