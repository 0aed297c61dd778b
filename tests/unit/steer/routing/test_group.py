"""The loop's state machine against Algorithm 1 and under failures."""

import random

import numpy as np
import pytest
from scripted import Script, drive, new_group, questions, two_camps, writers

from steer.config.policy import (
    FirstTokenEntropyPolicy,
    LargePolicy,
    PercentilePolicy,
    QueryRouterPolicy,
    RandomQueryPolicy,
    RandomStepPolicy,
    RsdPolicy,
    SmallPolicy,
    SpecReasonPolicy,
    SteerPolicy,
)
from steer.messages import Op, StepResults
from steer.mixture.bank import ScoreBank
from steer.traces import Finish, Model, Status

POLICIES = [
    SmallPolicy(),
    LargePolicy(),
    RandomStepPolicy(p=0.4),
    RandomQueryPolicy(p=0.4),
    PercentilePolicy(percent=40),
    FirstTokenEntropyPolicy(tau=0.2),
    SteerPolicy(preset="stepwise"),
    SteerPolicy(),
    SteerPolicy(preset="paper"),
    SteerPolicy(preset="stepwise", fit_from="bank", scope="per_model", scored_by="producer"),
    SteerPolicy(preset="stepwise", refine="every", also="entropy"),
    SteerPolicy(preset="stepwise", hysteresis=0.3),
    SteerPolicy(preset="stepwise", ahead=True),
    PercentilePolicy(percent=40, ahead=True, refine="never"),
    SteerPolicy(preset="stepwise", hysteresis=1.0, refine="every", fit_from="all_steps"),
    RsdPolicy(threshold=0.4),
    SpecReasonPolicy(threshold=0.3),
    QueryRouterPolicy(threshold=0.5),
]


def test_algorithm_1_refines_step_0_then_routes_by_the_step_before():
    traces = drive(new_group(SteerPolicy(preset="stepwise", gamma=0.5)), Script(score=two_camps))
    assert len(traces) == 20
    for i in range(20):
        sure = i % 2 == 0
        expected = (
            [(0, 0, "small", True), (1, 0, "small", True), (2, 0, "small", True), (3, 0, "small", True)]
            if sure
            else [(0, 0, "small", False), (0, 1, "large", True)] + [(s, 0, "large", True) for s in (1, 2, 3)]
        )
        assert writers(traces[f"q{i}"]) == expected
    assert traces["q1"].steps[0].decision == "rewrite"
    assert traces["q1"].text == "s0m1\n\ns1m1\n\ns2m1\n\ns3m1\n\n"


def test_without_refinement_an_unsure_first_step_is_kept():
    traces = drive(new_group(SteerPolicy(preset="stepwise", refine="never")), Script(score=two_camps))
    assert writers(traces["q1"])[:2] == [(0, 0, "small", True), (1, 0, "large", True)]


def test_gamma_0_never_and_gamma_1_nearly_always_calls_the_large_model():
    small = drive(new_group(SteerPolicy(preset="stepwise", gamma=0.0)), Script(score=two_camps))
    assert not any(s.model == Model.LARGE for t in small.values() for s in t.steps)
    large = drive(new_group(SteerPolicy(preset="stepwise", gamma=1.0)), Script(score=two_camps))
    assert all(s.model == Model.LARGE for i in range(1, 20, 2) for s in large[f"q{i}"].steps if s.accepted)


def test_small_scorer_scores_large_steps_and_producer_does_not():
    by_small, by_producer = Script(score=two_camps), Script(score=two_camps)
    scored = drive(new_group(SteerPolicy(preset="stepwise", scored_by="small")), by_small)
    own = drive(new_group(SteerPolicy(preset="stepwise", scored_by="producer")), by_producer)
    assert any(op == Op.SCORE for *_, op in by_small.asked)
    assert not any(op == Op.SCORE for *_, op in by_producer.asked)
    kept = scored["q1"].steps[1]
    assert kept.by_small is not None and kept.by_large is not None
    assert own["q1"].steps[1].by_small is None
    # The last step of a trace is routed by nobody, so nobody scores it.
    assert scored["q1"].steps[-1].by_small is None


def test_charges_include_drafts_and_prefill_less_the_cache():
    trace = drive(new_group(SteerPolicy(preset="stepwise")), Script(score=two_camps))["q1"]
    assert (trace.tokens_small, trace.tokens_large, trace.tokens_discarded) == (10, 40, 10)
    assert trace.prefill_large == 4 * 40
    assert trace.prefill_small == (1 + 3) * 40  # the draft, and three scoring passes
    assert trace.cached_tokens == 8 * 60


def test_strict_waits_for_the_slowest_and_rolling_does_not():
    for barrier, expected in (("strict", 0), ("rolling", 19)):
        group = new_group(SteerPolicy(preset="stepwise", refine="never"), barrier=barrier)
        script = Script(score=two_camps)
        rows = group.decide()
        group.apply(rows[:19], script.answer(group, rows[:19]))
        assert len(group.decide()) == expected


def test_rewritten_step_0_is_judged_again_with_the_whole_group():
    script = Script(score=lambda trace, step, model: 11.0 + 0.01 * trace if model else two_camps(trace, step, model))
    traces = drive(new_group(SteerPolicy(preset="stepwise", scored_by="producer")), script)
    rewrite = [s for s in traces["q1"].steps if s.attempt == 1][0]
    assert rewrite.confidence > 10 and np.isfinite(rewrite.posterior)
    kept = [s for s in traces["q0"].steps if s.step == 0][0]
    assert np.isfinite(kept.posterior)


def test_limits_end_a_trace_as_length():
    endless = Script(steps=lambda trace: 1 << 30, score=two_camps)
    by_steps = drive(new_group(SteerPolicy(preset="stepwise"), max_steps=5), endless)
    assert {t.status for t in by_steps.values()} == {Status.LENGTH}
    assert all(sum(s.accepted for s in t.steps) == 5 for t in by_steps.values())
    by_tokens = drive(new_group(SteerPolicy(preset="stepwise"), max_new_tokens=35), endless)
    assert {t.status for t in by_tokens.values()} == {Status.LENGTH}


def test_one_and_two_traces_route_without_a_mixture():
    for n in (1, 2):
        assert len(drive(new_group(SteerPolicy(preset="stepwise"), n=n), Script())) == n


def test_seeds_depend_on_the_question_not_on_its_place():
    qs = questions(10)
    together = {qs[r.trace].id: r.seed for r in new_group(SteerPolicy(preset="stepwise"), qs=qs).decide()}
    alone = {q.id: new_group(SteerPolicy(preset="stepwise"), qs=[q]).decide()[0].seed for q in qs}
    assert together == alone
    assert len(set(alone.values())) == 10
    other_run = new_group(SteerPolicy(preset="stepwise"), qs=qs, seed=1).decide()
    assert not set(alone.values()) & {r.seed for r in other_run}


def test_random_query_nests_and_hits_its_share():
    def large(p):
        traces = drive(new_group(RandomQueryPolicy(p=p), n=600), Script())
        return {i for i, t in traces.items() if t.tokens_large}

    low, high = large(0.3), large(0.6)
    assert low < high
    assert abs(len(low) / 600 - 0.3) < 0.07 and abs(len(high) / 600 - 0.6) < 0.07


def test_random_step_draws_anew_each_step():
    traces = drive(new_group(RandomStepPolicy(p=0.5), n=100), Script(steps=lambda t: 10))
    shares = [sum(s.model for s in t.steps) / 10 for t in traces.values()]
    assert abs(np.mean(shares) - 0.5) < 0.06 and 0 < np.std(shares) < 0.3


def test_percentile_sends_the_lowest_share():
    script = Script(score=lambda trace, step, model: float(trace))
    traces = drive(new_group(PercentilePolicy(percent=25), n=40), script)
    large = {i for i, t in traces.items() if t.tokens_large}
    assert large == {f"q{i}" for i in range(10)}


def test_first_token_entropy_probes_every_step_and_charges_it():
    script = Script(score=lambda trace, step, model: -1.0 if trace < 5 else 0.0)
    traces = drive(new_group(FirstTokenEntropyPolicy(tau=0.5)), script)
    assert all(s.model == Model.LARGE for s in traces["q0"].steps)
    assert all(s.model == Model.SMALL for s in traces["q9"].steps)
    assert traces["q0"].tokens_discarded == 4 and traces["q9"].tokens_small == 44


def test_a_probe_uses_the_seed_of_the_step_it_looks_into():
    group = new_group(FirstTokenEntropyPolicy(tau=10.0), n=3)
    script = Script()
    probes = group.decide()
    group.apply(probes, script.answer(group, probes))
    steps = group.decide()
    assert [r.op for r in steps] == [Op.STEP] * 3
    assert [r.seed for r in probes] == [r.seed for r in steps]


def test_lost_rows_are_asked_again_with_the_same_seed_and_counted_once():
    group, script = new_group(SteerPolicy(preset="stepwise"), n=4), Script(score=two_camps)
    first = group.decide()
    group.lost(first, "its process died")
    again = group.decide()
    assert [(r.trace, r.seed) for r in again] == [(r.trace, r.seed) for r in first]
    group.apply(again, script.answer(group, again))
    traces = drive(group, script)
    assert all(t.tokens_small + t.tokens_large == 10 * len(t.steps) for t in traces.values())


def test_three_losses_of_one_step_end_the_trace_as_error():
    group = new_group(SmallPolicy(), n=2, tries=3)
    for _ in range(3):
        group.lost(group.decide(), "its process died")
    assert group.decide() == [] and group.live == 0
    errors = [t for _, t in group.take_finished()]
    assert {t.status for t in errors} == {Status.ERROR} and "its process died" in errors[0].error


@pytest.mark.parametrize("barrier", ["strict", "rolling"])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
@pytest.mark.parametrize("seed", range(4))
def test_every_question_leaves_exactly_once_whatever_fails(policy, barrier, seed):
    rng = random.Random(seed)
    bank = ScoreBank()
    group = new_group(policy, n=30, seed=seed, bank=bank, barrier=barrier, max_steps=12)
    script = Script(steps=lambda trace: 1 + trace % 9, score=two_camps)
    out, finished = [], []
    while True:
        out += group.decide()
        finished += group.take_finished()
        if not group.live:
            break
        assert out
        rng.shuffle(out)
        cut = rng.randint(1, len(out))
        some, out = out[:cut], out[cut:]
        if rng.random() < 0.15:
            group.lost(some, "gone")
            continue
        group.apply(some, _spoil(script.answer(group, some), rng))
    assert sorted(i for i, _ in finished) == list(range(30))
    assert all(t.tokens_discarded <= t.tokens_small + t.tokens_large for _, t in finished)


def _spoil(results: StepResults, rng) -> StepResults:
    """Some rows come back as missing or as an error."""
    for i in range(len(results.finish_R)):
        dice = rng.random()
        if dice < 0.05:
            results.finish_R[i] = Finish.MISSING.value
        elif dice < 0.08:
            results.finish_R[i] = Finish.ERROR.value
            results.error_R[i] = "bad row"
    return results
