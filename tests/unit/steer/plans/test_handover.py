"""Hand-over-once policies on a table, against the same told question by question."""

import dataclasses

import numpy as np
import pytest
from prefix_tables import made_table

from steer.plans.candidates import evaluate, search
from steer.plans.handover import large_alone, small_alone
from steer.plans.rules import RULES
from steer.plans.signals import Signal, fit_length


def told(table, policy, q, tokens_past=0.0):
    """(correct, full FLOPs, the paper's FLOPs) of one question by one policy, a step after the other."""
    n_s, n_l, steps = table.n_small, table.n_large, int(table.steps_Q[q])
    tokens = table.tokens_QK[q]
    raw, seen = table.scores[policy["measure"], policy["aggregate"]][q], []
    for k in range(steps):
        score = raw[k]
        if policy["by_length"]:
            a, b = policy["by_length"]
            score -= a + b * np.log(table.scored_QK[q, k])
        finite = np.isfinite(score)
        seen += [score] if finite else []
        if finite and policy["so_far"] != "none":
            score = min(seen) if policy["so_far"] == "min" else sum(seen) / len(seen)
        threshold = policy["thresholds"][min(k, len(policy["thresholds"]) - 1)]
        if finite and score >= threshold:
            continue
        boundary = k + (policy["refine"] == "never")
        if boundary == steps:
            break
        written = min(tokens[: k + 1].sum() + tokens_past, tokens.sum())
        paper = 2 * (n_s * written + n_l * table.large_tokens_QK[q, boundary])
        prefill = 2 * (n_s * table.small_prompt_Q[q] + n_l * table.large_prompt_QK[q, boundary])
        return float(table.large_correct_QK[q, boundary]), (paper + prefill) / 1e12, paper / 1e12
    paper = 2 * n_s * tokens.sum()
    return float(table.small_correct_Q[q]), (paper + 2 * n_s * table.small_prompt_Q[q]) / 1e12, paper / 1e12


@pytest.fixture(scope="module")
def table():
    made = made_table(60, seed=3)
    holes = {key: score_QK.copy() for key, score_QK in made.scores.items()}
    holes["margin", "mean"][4, 0] = np.nan
    holes["margin", "min"][7, :2] = np.nan
    return dataclasses.replace(made, scores=holes)


@pytest.mark.parametrize("so_far", ["none", "min", "mean"])
@pytest.mark.parametrize("refine", ["every", "never"])
@pytest.mark.parametrize(("aggregate", "by_length", "past"), [("mean", None, 0.0), ("min", [-0.2, -0.3], 9.0)])
def test_prices_are_those_of_a_walk_through_each_question(table, so_far, refine, aggregate, by_length, past):
    policies = [
        {"measure": "margin", "aggregate": aggregate, "so_far": so_far, "by_length": by_length}
        | {"thresholds": thresholds, "refine": refine}
        for thresholds in ([-9.0], [-1.0], [0.5, -0.5], [2.0, 0.0, -1.0, -2.0], [1e300])
    ]
    answers = evaluate(table, policies, past)
    for t, policy in enumerate(policies):
        for q in range(len(table)):
            expected = told(table, policy, q, past)
            assert [values[t, q] for values in answers] == pytest.approx(expected), (policy, q)


def test_a_step_without_a_score_is_unsure(table):
    policy = {"measure": "margin", "aggregate": "mean", "so_far": "none", "by_length": None}
    answers = evaluate(table, [policy | {"thresholds": [-1e300], "refine": "every"}])
    assert answers.flops_full[0, 4] > small_alone(table).flops_full[4]
    others = np.arange(len(table)) != 4
    np.testing.assert_allclose(answers.flops_full[0, others], small_alone(table).flops_full[others])


def test_always_unsure_is_the_large_model_and_a_discarded_step(table):
    policy = {"measure": "margin", "aggregate": "mean", "so_far": "none", "by_length": None}
    answers = evaluate(table, [policy | {"thresholds": [1e300], "refine": "every"}])
    large = large_alone(table)
    np.testing.assert_array_equal(answers.correct[0], large.correct)
    wasted = 2e9 * (table.tokens_QK[:, 0] + table.small_prompt_Q) / 1e12
    np.testing.assert_allclose(answers.flops_full[0], large.flops_full + wasted)


def test_the_correction_is_the_least_squares_line(table):
    signal = Signal("margin", "min", by_length=True)
    a, b = fit_length(table, signal, np.ones(len(table), bool))
    score_QK = table.scores["margin", "min"]
    used = np.isfinite(score_QK)
    slope, intercept = np.polyfit(np.log(table.scored_QK[used]), score_QK[used], 1)
    assert (a, b) == pytest.approx((intercept, slope))


@pytest.mark.parametrize("rule", RULES)
def test_held_out_answers_are_those_of_thresholds_fitted_on_the_other_folds(rule):
    table = made_table(150, seed=5)
    signal = Signal("margin", "min", "none", by_length=True)
    options = {"signals": [signal], "rules": [rule], "refines": ["every"]}
    candidates = search(table, 5, 1, **options)
    fold = 2
    train, test = table.take(candidates.fold_Q != fold), table.take(candidates.fold_Q == fold)
    fitted = search(train, 2, 0, **options).families[0].policies
    expected = evaluate(test, fitted)
    held = candidates.families[0].held
    for values, others in zip(held, expected, strict=True):
        np.testing.assert_allclose(values[:, candidates.fold_Q == fold], others, rtol=1e-6)
