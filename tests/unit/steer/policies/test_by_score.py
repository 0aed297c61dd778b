"""`steer` with `decide: budget` and `decide: threshold`."""

import numpy as np
import pytest
from scripted import Script, drive, new_group, writers

from steer.config.policy import SteerPolicy
from steer.mixture.bank import ScoreBank
from steer.policies.by_score import share_at
from steer.traces import MEASURES


def threshold(*values, **more):
    return SteerPolicy(decide="threshold", thresholds=values, measure="margin", **{"ahead": False, **more})


def margins(score):
    """A script's score: this margin, and what must not matter in the other measures."""
    return lambda trace, step, model: tuple(score(trace, step) if m == "margin" else -1.0 for m in MEASURES)


def test_each_step_has_its_threshold_and_the_last_one_holds_for_the_rest():
    script = Script(steps=lambda trace: 5, score=margins(lambda trace, step: 1.0 if step == trace else 3.0))
    traces = drive(new_group(threshold(0.5, 2.0, 2.0), n=5), script)
    handed = {
        name: [s for s, _, model, kept in writers(trace) if model == "large" and kept] for name, trace in traces.items()
    }
    # Trace i is unsure at step i: below 0.5 never at step 0; the draft of the unsure step is written again.
    assert handed == {"q0": [], "q1": [1], "q2": [2], "q3": [3], "q4": [4]}


def test_an_unsure_step_stays_if_nothing_is_refined():
    script = Script(steps=lambda trace: 4, score=margins(lambda trace, step: 1.0 if step == 1 else 3.0))
    (trace,) = drive(new_group(threshold(2.0, refine="never"), n=1), script).values()
    assert writers(trace)[:2] == [(0, 0, "small", True), (1, 0, "small", True)]
    assert writers(trace)[2:] == [(2, 0, "large", True)] and trace.tokens_discarded == 0


def test_it_hands_back_once_the_large_models_step_is_sure():
    drafts = []

    def score(trace, step, model):
        """The small model's own draft of step 1 alone is unsure; it is scored first."""
        drafts.append(step)
        return (1.0 if step == 1 and drafts.count(1) == 1 else 3.0,) * 4

    (back,) = drive(
        new_group(threshold(2.0, hands_back=True), n=1), Script(steps=lambda trace: 4, score=score)
    ).values()
    assert [model for _, _, model, kept in writers(back) if kept] == ["small", "large", "small", "small"]


def test_no_trace_waits_for_another():
    group = new_group(threshold(2.0), n=4)
    assert not group.strict


def test_so_far_is_the_least_or_the_mean_of_the_steps_up_to_this_one():
    script = Script(steps=lambda trace: 4, score=margins(lambda trace, step: [4.0, 1.0, 4.0, 7.0][step]))
    for so_far, expected in (("min", [4, 1, 1, 1]), ("mean", [4, 2.5, 3, 4]), (None, [4, 1, 4, 7])):
        (trace,) = drive(new_group(threshold(-9.0, so_far=so_far), n=1), script).values()
        assert [step.confidence for step in trace.steps] == pytest.approx(expected)


def test_a_score_is_taken_less_what_its_length_explains():
    script = Script(steps=lambda trace: 2, score=margins(lambda trace, step: 3.0))
    (trace,) = drive(new_group(threshold(-9.0, by_length=(1.0, 2.0)), n=1), script).values()
    assert trace.steps[0].confidence == pytest.approx(3.0 - 1.0 - 2.0 * np.log(10))  # the script counts 10 tokens


@pytest.mark.parametrize("gamma", [0.2, 0.5, 0.8])
def test_a_budget_sends_about_its_share_of_the_traces_the_least_sure_first(gamma):
    policy = SteerPolicy(decide="budget", gamma=gamma, measure="margin", ahead=False)
    script = Script(steps=lambda trace: 8, score=margins(lambda trace, step: float(trace)))
    traces = drive(new_group(policy, n=200, bank=ScoreBank()), script)
    sent = {int(name[1:]) for name, trace in traces.items() if trace.tokens_large}
    assert len(sent) == pytest.approx(200 * gamma, abs=200 * 0.07)
    assert max(sent) < min(set(range(200)) - sent)


def test_a_preamble_that_is_always_unsure_is_no_trap():
    """Every first step is less sure than every later one: still the share decides, not the level."""
    policy = SteerPolicy(decide="budget", gamma=0.4, measure="margin", ahead=False)
    script = Script(steps=lambda trace: 6, score=margins(lambda trace, step: trace - 1000.0 * (step == 0)))
    traces = drive(new_group(policy, n=100, bank=ScoreBank()), script)
    sent = [trace for trace in traces.values() if trace.tokens_large]
    assert 30 <= len(sent) <= 45
    assert sum(trace.steps[0].decision == "rewrite" for trace in sent) <= 25


def test_the_shares_of_the_steps_add_up_to_gamma():
    for gamma in (0.1, 0.5, 0.9, 0.999):
        left = np.prod([1 - share_at(gamma, step) for step in range(60)])
        assert 1 - left == pytest.approx(gamma)


@pytest.mark.parametrize(("gamma", "sent"), [(0.0, 0), (1.0, 50)])
def test_the_ends_of_a_budget_send_nothing_and_everything(gamma, sent):
    policy = SteerPolicy(decide="budget", gamma=gamma, measure="margin", ahead=False)
    traces = drive(new_group(policy, n=50, bank=ScoreBank()), Script())
    assert sum(trace.tokens_large > 0 for trace in traces.values()) == sent


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"decide": "threshold"}, "thresholds"),
        ({"thresholds": [1.0]}, "decide"),
        ({"decide": "budget", "also": "max_prob"}, "also"),
        ({"hands_back": True}, "hysteresis"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys, named):
    with pytest.raises(ValueError, match=named):
        SteerPolicy.model_validate(keys)
