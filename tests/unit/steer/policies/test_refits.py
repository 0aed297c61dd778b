"""Under a rolling barrier a step's mixture is fitted anew when enough has come in, by what it was fitted on."""

from types import SimpleNamespace

import numpy as np
import pytest
from scripted import camps

from steer.config.policy import SteerPolicy
from steer.mixture.bank import ScoreBank
from steer.policies import make_policy
from steer.policies.base import StepScores

SCORES = camps(400)[np.random.default_rng(1).permutation(400)]


def fits(policy, came):
    """How often step 1 is fitted while scores come in one after another; `came`: so many."""
    scores = StepScores.empty(400)
    view = SimpleNamespace(strict=False, draft_L=np.zeros(400, bool), scores={1: scores})
    for trace in range(came):
        scores.conf_L[trace] = SCORES[trace]
        policy.decision(view, 1, np.array([trace]), draft=False)
    return len(policy.mixtures())


def test_a_bank_is_fitted_anew_after_a_tenth_of_what_it_holds():
    bank = ScoreBank()
    bank.add(1, camps(512), "max_prob pooled")
    policy = SteerPolicy(preset="stepwise", fit_from="bank")
    assert fits(make_policy(policy, bank=bank), 51) == 1
    assert fits(make_policy(policy, bank=bank), 200) == 4


def test_live_scores_are_fitted_anew_after_a_tenth_more_of_them():
    policy = SteerPolicy(preset="stepwise")
    more = fits(make_policy(policy), 400) - fits(make_policy(policy), 100)
    assert more == pytest.approx(np.log(4) / np.log(1.1), abs=1)
