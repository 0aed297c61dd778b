"""Oracle, Pareto set, recovered gap, and intervals over clusters, on small tables whose answers are known."""

import math

import numpy as np
import pandas as pd
import pytest

from steer.statistics.auroc import auroc
from steer.statistics.clusters import cluster_of, clusters
from steer.statistics.curves import accuracy_with_interval, curve, pareto
from steer.statistics.gap_recovered import gap_recovered
from steer.statistics.intervals import accuracy_interval
from steer.statistics.oracle import oracle, oracles
from steer.statistics.paired import paired


def traces(correct, flops, policy="steer", setting="", seed=0, **columns):
    """One trace a verdict, of questions q0, q1 ...; `flops` are full ones, half of them on the paper's count."""
    frame = pd.DataFrame({"correct": correct, "question_id": [f"q{i}" for i in range(len(correct))]})
    full = np.broadcast_to(np.asarray(flops, float), len(frame))
    row = {"benchmark": "b", "split": "test", "policy": policy, "setting": setting, "sample": 0, "seed": seed}
    row |= {"status": "answered", "steps": 1, "steps_large": 0, "tokens_discarded": 0}
    return frame.assign(flops_full=full, flops_paper=full / 2, **{**row, **columns})


# --- oracle ---------------------------------------------------------------------------------------------------------


def test_the_oracle_takes_the_cheaper_right_model_and_the_small_one_where_none_is_right():
    """Both right, large cheaper; small alone; large alone; neither, large cheaper; both right, small cheaper."""
    small = traces([True, True, False, False, True], [9, 1, 1, 5, 1])
    large = traces([True, False, True, False, True], [8, 4, 4, 4, 4])
    found = oracle(small, large)
    assert (found.accuracy, found.questions, found.share_large) == (0.8, 5, 0.4)
    assert found.flops_full == pytest.approx((8 + 1 + 4 + 5 + 1) / 5)
    assert found.flops_paper == pytest.approx(found.flops_full / 2)
    assert found.accuracy_low < 0.8 < found.accuracy_high


def test_with_several_answers_the_oracle_knows_the_mean_and_not_the_luck():
    """Each model is right on every second answer of q0, in turns: one of both always is, but no choice of a model."""
    small = pd.concat([traces([True, False], 1.0), traces([False, False], 3.0, seed=1)])
    large = pd.concat([traces([False, True], 8.0), traces([True, False], 8.0, seed=1)])
    found = oracle(small, large)
    assert found.accuracy == 0.5
    assert found.flops_full == pytest.approx((2 + 8) / 2), "q0 at equal means to the cheaper model"


def test_the_oracle_is_over_shared_questions_of_each_split_and_needs_both_models():
    small, large = traces([True, False, False], 1.0, "small"), traces([False, True], 4.0, "large")
    (line,) = oracles(pd.concat([small, large, traces([True], 2.0)])).to_dict("records")
    assert (line["benchmark"], line["split"], line["questions"], line["accuracy"]) == ("b", "test", 2, 1.0)
    assert oracles(pd.concat([small, large.assign(split="validation")])).empty
    assert oracles(pd.concat([small, large]), bar_labels={"large"}).empty, "a policy of that label is no bar"
    with pytest.raises(ValueError, match="no common question"):
        oracle(small, large.assign(question_id="other"))


# --- Pareto set -----------------------------------------------------------------------------------------------------


def test_the_pareto_set_is_what_no_other_point_beats():
    accuracy = np.array([0.5, 0.7, 0.6, 0.7, 0.9, 0.9, 0.4])
    cost = np.array([1.0, 2.0, 3.0, 2.0, 5.0, 6.0, 1.0])
    beaten = [
        any((a >= x and c <= y) and (a > x or c < y) for a, c in zip(accuracy, cost, strict=True))
        for x, y in zip(accuracy, cost, strict=True)
    ]
    assert pareto(accuracy, cost).tolist() == [not b for b in beaten]
    assert pareto(accuracy, cost).tolist() == [True, True, False, True, True, False, False]


def test_rows_of_the_curve_are_marked_within_their_benchmark_and_split():
    rows = [traces([True, True], 9.0, "large"), traces([True, False], 1.0, "small")]
    rows += [traces([True, False], 2.0, "steer", "gamma=0.1"), traces([True, True], 8.0, "plan", "gamma=0.3")]
    rows += [traces([False, False], 20.0, "steer", split="validation")]
    points = curve(pd.concat(rows)).set_index(["split", "policy"])
    assert points["pareto"].to_dict() == {
        ("test", "large"): False,
        ("test", "small"): True,
        ("test", "steer"): False,
        ("test", "plan"): True,
        ("validation", "steer"): True,
    }
    assert points.index[points["plan"]].tolist() == [("test", "plan")]


# --- recovered gap --------------------------------------------------------------------------------------------------

SMALL, LARGE = (1.0, 0.4), (11.0, 0.9)


def test_random_routing_recovers_as_much_as_it_costs():
    coin = gap_recovered([6.0], [0.65], SMALL, LARGE)
    assert coin[:3] == pytest.approx((0.5, 0.5, 0.8))


def test_the_gap_is_recovered_along_straight_lines_in_order_of_cost():
    """At a fifth of the cost between the models all but a tenth of the gap: PGR 0, .9, 1 at c = 0, .2, 1."""
    found = gap_recovered([3.0], [0.85], SMALL, LARGE)
    assert found.apgr == pytest.approx(0.2 * 0.45 + 0.8 * 0.95)
    assert (found.cpt_50, found.cpt_80) == pytest.approx((0.2 * 5 / 9, 0.2 * 8 / 9))


def test_cpt_is_the_least_cost_at_which_a_curve_that_falls_again_reaches_the_share():
    found = gap_recovered([7.0, 3.0, 5.0], [0.5, 0.7, 0.5], SMALL, LARGE)
    assert found.cpt_50 == pytest.approx(0.2 * 0.5 / 0.6)
    assert 0.6 < found.cpt_80 < 1.0 and found.settings == 3


def test_settings_of_equal_cost_are_averaged_and_those_beyond_the_models_are_left_out():
    found = gap_recovered([6.0, 6.0, 14.0, 0.5], [0.6, 0.7, 1.0, 0.9], SMALL, LARGE)
    assert found.apgr == pytest.approx(0.5) and found.settings == 2


@pytest.mark.parametrize(
    ("costs", "small", "large"),
    [
        ([14.0, 11.0, 1.0], SMALL, LARGE),
        ([6.0], SMALL, (11.0, 0.4)),
        ([6.0], (11.0, 0.4), (11.0, 0.9)),
        ([6.0], SMALL, (math.nan, 0.9)),
    ],
)
def test_without_a_gap_or_a_setting_between_the_models_nothing_is_said(costs, small, large):
    found = gap_recovered(costs, [0.7] * len(costs), small, large)
    assert all(map(math.isnan, found[:3])) and found.settings == 0


def test_the_curve_says_for_each_policy_what_all_of_its_settings_recover():
    rows = [traces([True] * 4 + [False] * 6, 1.0, "small"), traces([True] * 9 + [False], 11.0, "large")]
    rows += [traces([True] * n + [False] * (10 - n), cost, setting=str(n)) for n, cost in ((6, 3.0), (8, 7.0))]
    points = curve(pd.concat(rows)).set_index("policy")
    known = gap_recovered([3.0, 7.0], [0.6, 0.8], SMALL, LARGE)
    assert points.loc["steer", ["apgr", "cpt_50", "cpt_80"]].to_numpy() == pytest.approx(np.array([known[:3]] * 2))
    assert points.loc[["small", "large"], "apgr"].isna().all()
    assert curve(pd.concat(rows[1:]))["apgr"].isna().all(), "the small model was not run"


# --- clusters -------------------------------------------------------------------------------------------------------


def test_questions_share_a_rule_a_last_hop_or_a_context_and_else_nothing():
    assert cluster_of("kor_bench", "logic/7", '{"subset": "logic", "rule_id": "5"}') == "rule logic/5"
    assert cluster_of("mine", "1", '{"context": "ab12", "letters": "ABCD"}') == "context ab12"
    assert cluster_of("musique", "3hop1__12_34_56", '{"aliases": []}') == "hop 56"
    assert cluster_of("musique", " file row 3", "") == " file row 3"
    assert cluster_of("math500", "test/algebra/1.json", "{}") == "test/algebra/1.json"
    labels = ['{"rule_id": "1"}', '{"rule_id": "1"}', None]
    frame = pd.DataFrame({"benchmark": "kor_bench", "question_id": ["a", "b", "c"], "labels": labels})
    assert list(clusters(frame)) == ["rule /1", "rule /1", "c"]


def test_ten_questions_of_one_rule_say_no_more_than_one_if_they_go_together():
    """25 rules by 10 questions: by question the interval would be a third as wide as the rules allow."""
    rules = np.arange(25) % 5 < 3
    together = traces(np.repeat(rules, 10), 1.0)
    clustered = together.assign(cluster=np.repeat(np.arange(25), 10).astype(str))
    accuracy, low, high = accuracy_with_interval(clustered)
    assert accuracy == 0.6
    by_rule, by_question = accuracy_interval(15, 25), accuracy_interval(150, 250)
    assert high - low == pytest.approx(by_rule[1] - by_rule[0], rel=0.1)
    assert high - low > 2.5 * (by_question[1] - by_question[0])


def test_clusters_of_independent_questions_do_not_widen_the_interval():
    right = np.random.default_rng(0).random(1000) < 0.6
    frame = traces(right, 1.0)
    _, low, high = accuracy_with_interval(frame.assign(cluster=[str(i // 10) for i in range(1000)]))
    _, one_low, one_high = accuracy_with_interval(frame)
    assert high - low == pytest.approx(one_high - one_low, rel=0.25)


def test_clusters_that_are_all_right_have_wilsons_interval_of_so_many_clusters():
    frame = traces([True] * 30, 1.0).assign(cluster=[str(i % 6) for i in range(30)])
    assert accuracy_with_interval(frame) == pytest.approx((1.0, *accuracy_interval(6, 6)))
    (point,) = curve(frame).to_dict("records")
    assert (point["questions"], point["clusters"]) == (30, 6)


def test_a_cluster_for_each_question_changes_nothing():
    right = np.random.default_rng(1).random((2, 40)) < 0.5
    several = pd.concat([traces(right[0], 1.0), traces(right[1], 1.0, seed=1)], ignore_index=True)
    one = traces(right[0], 1.0)
    other = traces(right[1], 2.0)
    for frame in (one, several):
        assert accuracy_with_interval(frame.assign(cluster=frame["question_id"])) == accuracy_with_interval(frame)
    own = [frame.assign(cluster=frame["question_id"]) for frame in (one, other)]
    assert paired(*own) == paired(one, other)


def test_differences_and_auroc_are_resampled_by_cluster_too():
    rng = np.random.default_rng(2)
    better = np.repeat(rng.random(20) < 0.5, 10)
    a, b = (traces(right, 1.0) for right in (np.zeros(200, bool), better))
    rules = np.repeat(np.arange(20), 10).astype(str)
    narrow, wide = paired(a, b), paired(a.assign(cluster=rules), b.assign(cluster=rules))
    assert wide.accuracy_difference == narrow.accuracy_difference
    assert wide.accuracy_high - wide.accuracy_low > 2 * (narrow.accuracy_high - narrow.accuracy_low)
    score = better * 0.5 + np.repeat(rng.normal(size=20), 10)
    steps = pd.DataFrame({"trace": range(200), "step": 0, "large": False, "of": 1, "confidence": score})
    (loose,) = auroc(b.assign(cluster=rules), steps).to_dict("records")
    (tight,) = auroc(b, steps).to_dict("records")
    assert loose["auroc"] == tight["auroc"]
    assert loose["auroc_high"] - loose["auroc_low"] > 2 * (tight["auroc_high"] - tight["auroc_low"])
