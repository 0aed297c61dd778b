"""What `steer` adds to Algorithm 1: refinement of every step, hysteresis, writing ahead, a second measure."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
from scripted import Script, drive, new_group, two_camps, writers

from steer.config.policy import LargePolicy, SteerPolicy
from steer.messages import Op
from steer.mixture.bank import ScoreBank
from steer.policies.base import StepScores
from steer.policies.steer import Steer
from steer.traces import Model, Status


def test_refining_every_step_discards_unsure_drafts_and_large_steps_never():
    def unsure_at_2(trace, step, model):
        unsure = trace % 4 == 3 or (trace % 4 == 1 and step == 2 and model == Model.SMALL)
        return (2.0 if unsure else 10.0) + 0.01 * trace

    traces = drive(new_group(SteerPolicy(preset="stepwise", refine="every")), Script(score=unsure_at_2))
    drafts = [(s.step, s.attempt, Model(s.model).label, s.accepted) for s in traces["q1"].steps]
    assert (2, 0, "small", False) in drafts and (2, 1, "large", True) in drafts
    assert traces["q1"].text.split("\n\n")[2] == "s2m1"
    assert traces["q1"].tokens_discarded == 10
    assert all(s.accepted for t in traces.values() for s in t.steps if s.model == Model.LARGE)
    assert traces["q3"].tokens_discarded == 10  # the first draft alone: large goes on until small would be sure


def test_hysteresis_asks_more_of_a_step_by_the_large_model():
    class Posterior:
        """A fit under which a score is its own posterior."""

        def fit(self, *_):
            return self

        def posterior(self, scores_L, model_L, monotone):
            return scores_L

        def rows(self, step, draft):
            return []

    scores = StepScores.empty(4)
    scores.conf_L[:], scores.model_L[:] = [0.5, 0.7, 0.7, 0.9], [Model.SMALL, Model.SMALL, Model.LARGE, Model.LARGE]
    view = SimpleNamespace(strict=True, draft_L=np.zeros(4, bool), scores={1: scores})
    policy = Steer(SteerPolicy(preset="stepwise", gamma=0.6, hysteresis=0.2), [Posterior()])
    sure_N, posterior_N = policy.decision(view, 1, np.arange(4), draft=False)
    assert sure_N.tolist() == [False, True, False, True]
    assert posterior_N.tolist() == [0.5, 0.7, 0.7, 0.9]


def test_hysteresis_above_1_lets_the_large_model_finish_in_one_pass():
    script = Script(score=two_camps)
    policy = SteerPolicy(preset="stepwise", hysteresis=1.0, fit_from="all_steps")
    traces = drive(new_group(policy, bank=ScoreBank()), script)
    assert writers(traces["q1"]) == [(0, 0, "small", False), (0, 1, "large", True)]
    assert traces["q1"].status == Status.ANSWERED
    assert {op for trace, _, model, op in script.asked if model == Model.LARGE} == {Op.WHOLE}
    assert not any(op == Op.SCORE for *_, op in script.asked)  # nobody routes after it
    assert len(traces["q0"].steps) == 4


def test_nobody_at_the_barrier_waits_for_a_last_pass():
    group, script = new_group(SteerPolicy(preset="stepwise", hysteresis=1.0)), Script(score=two_camps)
    rows = group.decide()
    group.apply(rows, script.answer(group, rows))
    rows = group.decide()
    assert {row.op for row in rows} == {Op.WHOLE}  # the rewrites; the sure ones go on meanwhile
    assert {row.trace % 2 for row in group.decide()} == {0}


def test_writing_ahead_is_decided_on_step_by_step_and_thrown_away_from_the_first_unsure_step():
    def unsure_at_2(trace, step, model):
        unsure = trace % 4 == 3 or (trace % 4 == 1 and step == 2 and model == Model.SMALL)
        return (2.0 if unsure else 10.0) + 0.01 * trace

    policy = SteerPolicy(preset="stepwise", ahead=True, refine="every", hysteresis=1.0, fit_from="all_steps")
    script = Script(score=unsure_at_2)
    traces = drive(new_group(policy, bank=ScoreBank()), script)
    asked = [(trace, op) for trace, _, model, op in script.asked if model == Model.SMALL]
    assert sorted(asked) == [(trace, Op.AHEAD) for trace in range(20)]  # one request a trace
    assert writers(traces["q0"]) == [(s, 0, "small", True) for s in range(4)]
    assert (traces["q0"].tokens_small, traces["q0"].tokens_discarded, traces["q0"].prefill_small) == (40, 0, 40)
    cut = traces["q1"]
    assert writers(cut) == [
        *[(s, 0, "small", True) for s in (0, 1)],
        *[(2, 0, "small", False), (2, 1, "large", True)],
    ]
    assert cut.text == "s0m0\n\ns1m0\n\ns2m1\n\n"
    assert (cut.tokens_small, cut.tokens_discarded) == (40, 20)  # the draft of step 2, and step 3 behind it
    assert traces["q3"].tokens_discarded == 40


def test_writing_ahead_changes_what_is_asked_and_not_what_comes_out():
    whole = [SteerPolicy(preset="stepwise", ahead=ahead, refine="every") for ahead in (False, True)]
    by_step, ahead = (drive(new_group(policy), Script(score=two_camps)) for policy in whole)
    assert {k: (t.text, writers(t)) for k, t in ahead.items()} == {k: (t.text, writers(t)) for k, t in by_step.items()}
    assert sum(t.prefill_small for t in ahead.values()) < sum(t.prefill_small for t in by_step.values())


def test_a_pass_that_comes_back_in_pieces_is_the_same_trace():
    ahead = SteerPolicy(preset="stepwise", ahead=True, refine="every", hysteresis=1.0, fit_from="all_steps")
    ends = {}
    for cut in (None, 1, 2):
        script = Script(score=two_camps, cut=cut)
        ends[cut] = drive(new_group(ahead, bank=ScoreBank()), script)
        asked = Counter(op for trace, _, model, op in script.asked if trace % 2 == 0)
        assert asked == {Op.AHEAD: 10 * {None: 1, 1: 4, 2: 2}[cut]}
    for cut in (1, 2):
        for trace, one in ends[None].items():
            other = ends[cut][trace]
            kept = "".join(f"s{s}m{1 if one.tokens_large else 0}\n\n" for s in range(4))
            assert (other.text, other.status) == (kept, one.status)
            assert other.tokens_small <= one.tokens_small  # less is written behind an unsure step
    assert {t.tokens_discarded for t in ends[1].values()} == {0, 10}


def test_a_model_alone_goes_on_piece_by_piece_within_its_tokens_and_whatever_the_steps():
    traces = drive(new_group(LargePolicy(), max_steps=2), Script(cut=1))
    for trace in traces.values():
        assert (trace.status, trace.tokens_large) == (Status.ANSWERED, 40)
        assert writers(trace) == [(s, 0, "large", True) for s in range(4)]
    assert [s.decision for s in traces["q0"].steps] == ["large", "large", "large", "end"]
    short = drive(new_group(LargePolicy(), max_new_tokens=20), Script(cut=1))
    assert {(t.status, t.tokens_large, len(t.steps)) for t in short.values()} == {(Status.LENGTH, 20, 2)}


def test_pieces_of_a_last_pass_have_seeds_of_their_own_and_nobody_waits_for_them():
    group, script = new_group(SteerPolicy(preset="stepwise", hysteresis=1.0)), Script(score=two_camps, cut=1)
    rows = group.decide()
    group.apply(rows, script.answer(group, rows))
    first = group.decide()
    sure = group.decide()
    assert {row.trace % 2 for row in sure} == {0}
    group.apply(first, script.answer(group, first))
    further = group.decide()  # while the sure ones are out
    assert [(row.trace, row.op) for row in further] == [(row.trace, Op.WHOLE) for row in first]
    assert not {row.seed for row in further} & {row.seed for row in first}


def test_limits_hold_for_steps_that_were_written_ahead():
    long = Script(steps=lambda trace: 12, score=lambda trace, step, model: 10.0 + 0.01 * trace)
    traces = drive(new_group(SteerPolicy(preset="stepwise", ahead=True, gamma=0.0), max_steps=5), long)
    assert all(t.status == Status.LENGTH and len(t.steps) == 5 for t in traces.values())
    assert all((t.tokens_small, t.tokens_discarded) == (120, 70) for t in traces.values())


def test_a_second_measure_makes_a_step_as_sure_as_the_less_sure_of_the_two():
    def scores(trace, step, model):
        logit, prob = (2.0 if trace % 4 == 1 else 10.0), (2.0 if trace % 4 == 2 else 10.0)
        return logit + 0.01 * trace, 0.0, prob + 0.01 * trace

    def rewritten(policy):
        traces = drive(new_group(policy, n=40), Script(score=scores))
        return {i % 4 for i in range(40) if traces[f"q{i}"].steps[0].decision == "rewrite"}

    assert rewritten(SteerPolicy(preset="stepwise")) == {2}
    assert rewritten(SteerPolicy(preset="stepwise", measure="max_logit")) == {1}
    assert rewritten(SteerPolicy(preset="stepwise", also="max_logit")) == {1, 2}


def test_the_time_a_decision_takes_is_its_own_scoring_pass_and_its_share_of_the_fit():
    traces = drive(new_group(SteerPolicy(preset="stepwise")), Script(score=two_camps))
    by_large, last = traces["q1"].steps[1], traces["q1"].steps[-1]
    assert 0.25 < by_large.routing_seconds < 0.5  # the scoring pass, as the script reports it, and the fit
    assert 0 < traces["q0"].steps[0].routing_seconds < 0.25
    assert last.routing_seconds == 0.0
