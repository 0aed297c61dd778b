"""Policies that route by another model's word, on a scripted engine: order of events, costs, and signals that fail."""

import numpy as np
import pytest
from scripted import Script, drive, new_group, questions

from actors.router.roles import role_model
from steer.config.check import needed_roles, usable_pair
from steer.config.policy import QueryRouterPolicy, RsdPolicy, SmallPolicy, SpecReasonPolicy
from steer.config.run import ModelConfig, PairConfig, RoutingOptions, RunConfig
from steer.messages import Op
from steer.policies import make_policy
from steer.routing.group import Group
from steer.storage.tables import routed_table
from steer.traces import Model, Role, Status


def low_for_odd(trace, step):
    """Drafts of odd traces are distrusted."""
    return 0.2 if trace % 2 else 0.9


def writers(trace):
    return [(s.step, s.attempt, Model(s.model).label, s.accepted) for s in trace.steps]


@pytest.mark.parametrize(
    ("policy", "scale", "role", "op"),
    [(RsdPolicy(), 1, Role.PRM, Op.REWARD), (SpecReasonPolicy(threshold=6.3), 9, Role.JUDGE, Op.JUDGE)],
)
def test_every_step_is_drafted_rated_and_rewritten_where_the_rating_is_low(policy, scale, role, op):
    script = Script(signal=lambda trace, step: scale * low_for_odd(trace, step))
    traces = drive(new_group(policy, n=4), script)
    assert writers(traces["q0"]) == [(step, 0, "small", True) for step in range(4)]
    both = [[(step, 0, "small", False), (step, 1, "large", True)] for step in range(4)]
    assert writers(traces["q1"]) == [entry for pair in both for entry in pair]
    signals = [s.signal for s in traces["q1"].steps]
    assert np.allclose(signals[::2], 0.2 * scale) and np.isnan(signals[1::2]).all()  # rewrites are kept unrated
    assert [s.decision for s in traces["q1"].steps] == ["rewrite", "small"] * 3 + ["rewrite", "end"]
    assert {(model, o) for _, _, model, o in script.asked if o == op} == {(role, op)}
    # Four ratings of 100 tokens, 60 of them cached; the judge writes one token more.
    per_rating = 41 if op == Op.JUDGE else 40
    assert traces["q1"].tokens_signal[role] == 4 * per_rating
    assert (traces["q1"].tokens_small, traces["q1"].tokens_large, traces["q1"].tokens_discarded) == (40, 40, 40)
    assert [s.signal_seconds for s in traces["q0"].steps] == [0.25] * 4


def test_a_draft_that_ends_the_trace_is_rated_before_it_counts():
    traces = drive(new_group(RsdPolicy(), n=2), Script(steps=lambda trace: 1, signal=low_for_odd))
    assert writers(traces["q0"]) == [(0, 0, "small", True)]
    assert writers(traces["q1"]) == [(0, 0, "small", False), (0, 1, "large", True)]
    assert {t.status for t in traces.values()} == {Status.ANSWERED}


def test_the_judge_sits_at_the_large_model_unless_it_has_a_seat():
    for role in (Role.LARGE, Role.JUDGE):
        group = Group(1, questions(1), make_policy(SpecReasonPolicy()), RoutingOptions(), 0, judge=role)
        script = Script(signal=lambda trace, step: 9.0)
        (trace,) = drive(group, script).values()
        assert {model for _, _, model, op in script.asked if op == Op.JUDGE} == {role}
        assert trace.tokens_signal[role] == 4 * 41 and trace.tokens_large == 0


def test_the_query_router_asks_once_and_sends_the_question_whole():
    script = Script(signal=low_for_odd)
    traces = drive(new_group(QueryRouterPolicy(), n=4), script)
    assert writers(traces["q0"]) == [(0, 0, "small", True)] and writers(traces["q1"]) == [(0, 0, "large", True)]
    assert [op for trace, _, _, op in script.asked if trace == 0] == [Op.SOLVE, Op.WHOLE]
    assert traces["q1"].steps[0].signal == 0.2 and traces["q1"].tokens_signal[Role.QUERY] == 40


@pytest.mark.parametrize("policy", [RsdPolicy(), SpecReasonPolicy(), QueryRouterPolicy()])
def test_a_signal_that_cannot_be_had_calls_the_large_model_and_is_asked_once(policy):
    script = Script(signal=lambda trace, step: np.nan)
    traces = drive(new_group(policy, n=2), script)
    assert all(s.model == Model.LARGE for t in traces.values() for s in t.steps if s.accepted)
    asked = [entry for entry in script.asked if entry[3] in (Op.REWARD, Op.JUDGE, Op.SOLVE)]
    assert len(asked) == len(set(asked))


def test_the_threshold_moves_compute_from_one_model_to_the_other():
    shares = []
    for threshold in (0.0, 0.5, 1.0):
        traces = drive(new_group(RsdPolicy(threshold=threshold), n=40), Script(signal=lambda t, step: t / 40))
        shares.append(sum(t.tokens_large > 0 for t in traces.values()) / 40)
    assert shares == [0.0, 0.5, 1.0]


def test_signals_are_charged_in_full_and_not_by_the_papers_count():
    traces = list(drive(new_group(RsdPolicy(), n=2), Script(signal=low_for_odd)).values())
    rows = routed_table(traces, [], [1e6, 1e7, 1e8, 0, 0]).to_pylist()
    for row, trace in zip(rows, traces, strict=True):
        assert row["tokens_signal"] == 160
        assert np.isclose(row["flops_signal"], 2 * 160 * 1e8 / 1e12)
        assert np.isclose(row["flops_paper"], 2 * (trace.tokens_small * 1e6 + trace.tokens_large * 1e7) / 1e12)
        prefill = 2 * (trace.prefill_small * 1e6 + trace.prefill_large * 1e7) / 1e12
        assert np.isclose(row["flops_full"], row["flops_paper"] + prefill + row["flops_signal"])


def test_lost_signals_are_asked_again_up_to_the_limit():
    group, script = new_group(RsdPolicy(), n=1, tries=3), Script(signal=low_for_odd)
    drafts = group.decide()
    group.apply(drafts, script.answer(group, drafts))
    for _ in range(3):
        group.lost(group.decide(), "its process died")
    assert group.decide() == [] and group.live == 0
    ((_, trace),) = group.take_finished()
    assert trace.status == Status.ERROR and len(trace.steps) == 1


def test_a_pair_that_lacks_a_signal_is_refused_with_the_remedy():
    bare = PairConfig(small=ModelConfig(path="s"), large=ModelConfig(path="l"))
    for policy, remedy in ((RsdPolicy(), "prm:"), (QueryRouterPolicy(), "train-router")):
        with pytest.raises(ValueError, match=remedy):
            usable_pair(RunConfig(pair=bare), [SmallPolicy(), policy])
    assert needed_roles([SmallPolicy(), SpecReasonPolicy()], bare) == (Role.SMALL, Role.LARGE)
    whole = bare.model_copy(update={"prm": bare.large, "judge": bare.large, "probe": "p"})
    needs = needed_roles([QueryRouterPolicy(), RsdPolicy(), SpecReasonPolicy()], whole)
    assert needs == tuple(Role)
    assert role_model(whole, Role.QUERY).engine == {"probe": "p"} and role_model(whole, Role.PRM).path == "l"
