"""The report's numbers on small tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.report.frames import rows_of
from steer.statistics.auroc import auroc, clustered_auroc
from steer.statistics.confidence_by_step import confidence_by_step
from steer.statistics.curves import accuracy_with_interval, curve
from steer.statistics.frames import ReportRow
from steer.statistics.intervals import accuracy_interval
from steer.statistics.large_share import difficulty_bands, large_share
from steer.statistics.paired import against, compare, paired

NAN = float("nan")


def traces(correct, policy="steer", setting="gamma=0.5", split="test", sample=0, seed=0, first=0, **columns):
    """One trace a verdict, of questions q0, q1 ..."""
    n = len(correct)
    frame = pd.DataFrame({"correct": correct, "question_id": [f"q{first + i}" for i in range(n)]})
    values = {"benchmark": "b", "split": split, "policy": policy, "setting": setting, "sample": sample, "seed": seed}
    values |= {"difficulty": "", "status": "answered", "steps": 1, "steps_large": 0, "tokens_discarded": 0}
    return frame.assign(**{**values, "flops_paper": 1.0, "flops_full": 2.0, **columns})


def together(*frames):
    return pd.concat(frames, ignore_index=True)


def steps(*of_each, **scores):
    """Steps of traces 0, 1 ...: of each a string such as `SLS`, who wrote them."""
    rows = [(t, i, w == "L", len(who)) for t, who in enumerate(of_each) for i, w in enumerate(who)]
    return pd.DataFrame(rows, columns=["trace", "step", "large", "of"]).assign(**scores)


# --- accuracy and compute -------------------------------------------------------------------------------------------


def test_one_answer_a_question_has_wilsons_interval():
    assert accuracy_with_interval(traces([True] * 3 + [False])) == pytest.approx((0.75, *accuracy_interval(3, 4)))


def test_several_answers_a_question_are_resampled_by_question():
    """Two answers that always agree say no more than one: the interval is not narrower than for one."""
    verdicts = [True] * 30 + [False] * 20
    _, low, high = accuracy_with_interval(together(traces(verdicts), traces(verdicts, seed=1)))
    one = accuracy_interval(30, 50)
    assert high - low == pytest.approx(one[1] - one[0], abs=0.02)


def test_an_unfinished_run_is_the_share_of_its_answers():
    accuracy, low, high = accuracy_with_interval(together(traces([True, False]), traces([True], seed=1)))
    assert accuracy == pytest.approx(2 / 3)
    assert 0 <= low <= accuracy <= high <= 1


def test_the_curve_has_compute_share_and_distance_from_the_bar():
    points = curve(
        together(
            traces([True, False], "small", "", flops_paper=1.0),
            traces([True, True], "large", "", flops_paper=9.0, steps_large=1),
            traces([True, True], flops_paper=5.0, steps=4, steps_large=1),
        ),
        chosen=[["b", "steer", "gamma=0.5"]],
    ).set_index("policy")
    assert list(points["accuracy"]) == [0.5, 1.0, 1.0]
    assert list(points["share_large"]) == [0.0, 1.0, 0.25]
    assert points.loc["steer", "above_bar"] == pytest.approx(1.0 - 0.75)
    assert list(points["chosen"]) == [False, False, True]


def test_without_a_bar_nothing_is_above_it():
    assert curve(traces([True, False]))["above_bar"].isna().all()


def test_cells_are_rows_of_benchmark_split_label_and_setting():
    cells = [
        {"name": "a/b/test/my label/gamma=0.5/seed3", "policy": {"name": "steer", "gamma": 0.5}},
        {"name": "a/b/validation/small/seed0", "policy": {"name": "small"}},
        {"name": "a/b/test/steer/seed0", "policy": {"name": "steer", "gamma": 0.25}},
    ]
    splits = [{"benchmark": "a/b", "split": split} for split in ("validation", "test")]
    assert list(rows_of({"cells": cells, "benchmarks": splits}).values()) == [
        ReportRow("a/b", "test", "my label", "gamma=0.5"),
        ReportRow("a/b", "validation", "small", ""),
        ReportRow("a/b", "test", "steer", "gamma=0.25"),
    ]


# --- confidence by step ---------------------------------------------------------------------------------------------


def test_confidence_is_apart_for_right_and_wrong_traces():
    frame = confidence_by_step(
        traces([True, True, True, False]),
        steps("SS", "SS", "S", "S", confidence=[1.0, 10.0, 2.0, 20.0, 6.0, 5.0]),
        least=1,
    )
    by_step = frame[frame["axis"] == "step"].set_index(["x", "correct"])
    assert by_step.loc[(1, True), ["n", "mean", "q25", "median", "q75"]].tolist() == [3, 3.0, 1.5, 2.0, 4.0]
    assert by_step.loc[(1, False), ["n", "mean", "median"]].tolist() == [1, 5.0, 5.0]
    assert by_step.loc[(2, True), "mean"] == 15.0
    relative = frame[frame["axis"] == "relative"]
    assert list(relative["x"]) == [25, 75], "the middles of two steps; traces of one step have no position"


def test_quartiles_are_numpys():
    values = np.random.default_rng(0).normal(size=37)
    (line,) = confidence_by_step(traces([True] * 37), steps(*["S"] * 37, entropy_small=values)).to_dict("records")
    assert (line["measure"], line["scorer"], line["n"]) == ("entropy", "small", 37)
    assert [line["q25"], line["median"], line["q75"]] == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]))


def test_points_of_few_scores_and_scores_that_are_not_there_are_left_out():
    frame = confidence_by_step(traces([True] * 6), steps("SS", *["S"] * 5, confidence=range(7), signal=NAN))
    assert list(frame["x"]) == [1]
    assert set(frame["measure"]) == {"routed by"}


# --- share of large steps -------------------------------------------------------------------------------------------


def test_the_share_of_large_steps_follows_the_position():
    frame = large_share(traces([True, False], difficulty=["1", "2"]), steps("SL", "LLLS"), least=1)
    right = frame[frame["correct"]]
    assert list(right["position"]) == list(range(5, 100, 10))
    assert list(right["share_large"]) == [0.0] * 5 + [1.0] * 5
    wrong = frame[~frame["correct"]].set_index("position")["share_large"]
    assert wrong[65] == 1.0 and wrong[75] == pytest.approx(0.5) and wrong[85] == 0.0
    assert frame.groupby("difficulty")["steps"].sum().to_dict() == pytest.approx({"1": 2.0, "2": 4.0})


def test_rows_without_a_mixed_trace_have_no_share():
    assert large_share(traces([True, False]), steps("SS", "LL"), least=1).empty


def test_difficulties_of_few_traces_are_left_out():
    frame = large_share(traces([True] * 6, difficulty=["1"] * 5 + ["2"]), steps(*["SL"] * 6))
    assert set(frame["difficulty"]) == {"1"}


def test_many_difficulties_are_put_together():
    numbers = difficulty_bands(pd.Series([str(i / 2) for i in range(20)]))
    assert numbers.cat.categories[0] == "0–1.5" and len(numbers.cat.categories) == 5
    words = difficulty_bands(pd.Series(["a"] * 3 + list("bcdefghb")))
    assert len(words.cat.categories) == 6 and words.cat.categories[-1] == "other"
    assert list(difficulty_bands(pd.Series(["10", "9"])).cat.categories) == ["9", "10"]
    assert list(difficulty_bands(pd.Series(["", ""])).cat.categories) == ["all"]


# --- AUROC ----------------------------------------------------------------------------------------------------------


def test_auroc_is_of_the_mean_over_scored_steps():
    """Means 3, 1 (right), 2, 0 (wrong): three of four pairs are in order."""
    scored = steps("SS", "S", "SS", "S", max_prob_small=[2.0, 4.0, 1.0, NAN, 2.0, 0.0])
    (line,) = auroc(traces([True, True, False, False]), scored, least=1).to_dict("records")
    assert (line["auroc"], line["n"], line["right"]) == (0.75, 4, 2)
    assert line["scored"] == pytest.approx(5 / 6)
    assert (line["measure"], line["scorer"]) == ("max_prob", "small")


def test_a_signal_has_a_row_of_its_own():
    frame = auroc(traces([True] * 5 + [False] * 5), steps(*["S"] * 10, signal=[1.0] * 5 + [0.0] * 5))
    assert frame[["measure", "auroc"]].values.tolist() == [["signal", 1.0]]


def test_too_few_right_or_wrong_traces_have_no_auroc():
    assert auroc(traces([True] * 9 + [False]), steps(*["S"] * 10, signal=range(10))).empty


def test_the_weighted_statistic_is_scikit_learns_with_ties():
    rng = np.random.default_rng(1)
    score, right = rng.integers(0, 5, 200).astype(float), rng.random(200) < 0.4
    area, low, high = clustered_auroc(score, right, np.arange(200))
    assert area == roc_auc_score(right, score)
    assert low < area < high
    assert clustered_auroc(score, right, np.arange(200)) == (area, low, high)


def test_copies_of_a_question_do_not_narrow_the_interval():
    rng = np.random.default_rng(2)
    right = rng.random(100) < 0.5
    score = rng.normal(size=100) + right
    _, low, high = clustered_auroc(score, right, np.arange(100))
    _, low_4, high_4 = clustered_auroc(np.tile(score, 4), np.tile(right, 4), np.tile(np.arange(100), 4))
    assert high_4 - low_4 == pytest.approx(high - low, rel=0.25)


# --- paired comparison ----------------------------------------------------------------------------------------------


def test_the_difference_is_over_shared_questions():
    found = paired(traces([True, False, False]), traces([True, True, True], first=1, flops_paper=3.0))
    assert (found.questions, found.only_a, found.only_b) == (2, 1, 1)
    assert (found.accuracy_a, found.accuracy_b, found.accuracy_difference) == (0.0, 1.0, 1.0)
    assert (found.flops_paper_a, found.flops_paper_difference) == (1.0, 2.0)


def test_seeds_are_averaged_and_samples_matched():
    a = together(traces([True]), traces([False], seed=1), traces([True], sample=1))
    b = together(traces([False]), traces([True], sample=2))
    assert paired(a, b).accuracy_difference == -0.5, "sample 0 alone is shared: half right against wrong"


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(3)
    a = rng.random(400) < 0.5
    b = a ^ (rng.random(400) < 0.05)
    alike = paired(traces(a), traces(b))
    strangers = paired(traces(a), traces(rng.permutation(b)))
    assert alike.accuracy_high - alike.accuracy_low < 0.5 * (strangers.accuracy_high - strangers.accuracy_low)
    assert alike.accuracy_low <= alike.accuracy_difference <= alike.accuracy_high


def test_no_difference_on_any_question_still_has_an_interval():
    found = paired(traces([True] * 50), traces([True] * 50))
    assert found.accuracy_difference == 0
    assert found.accuracy_high == -found.accuracy_low == pytest.approx(accuracy_interval(0, 50)[1])


def test_runs_without_a_shared_question_are_refused():
    with pytest.raises(ValueError, match="same questions"):
        paired(traces([True]), traces([True], first=5))
    assert compare(traces([True]), traces([True], first=5)).empty


def test_rows_are_matched_by_setting_then_by_policy_then_the_single_row():
    one = together(traces([True], "small", ""), traces([True], "steer", "gamma=0.1"))
    other = together(traces([True], "small", ""), traces([True], "steer", "gamma=0.3"))
    assert compare(one, other)[["policy_a", "setting_a", "setting_b"]].values.tolist() == [
        ["small", "", ""],
        ["steer", "gamma=0.1", "gamma=0.3"],
    ]
    assert compare(traces([True], "large", ""), other)["policy_b"].tolist() == ["small", "steer"]


def test_each_row_is_held_against_large():
    found = against(together(traces([True, True], "large", ""), traces([True, False])))
    assert found[["policy_a", "policy_b", "accuracy_difference"]].values.tolist() == [["large", "steer", -0.5]]
    assert against(traces([True])).empty
