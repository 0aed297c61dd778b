"""FLOPs by both counts, and intervals of accuracies."""

import numpy as np
import pytest

from steer.costs.flops import flops_full, flops_paper
from steer.statistics.intervals import accuracy_interval, clustered_interval


def test_flops_paper_is_2n_for_each_generated_token():
    assert flops_paper(100, 10, 1.5e9, 7e9) == pytest.approx((2 * 1.5e9 * 100 + 2 * 7e9 * 10) / 1e12)
    assert flops_paper(0, 0, 1.5e9, 7e9) == 0.0


def test_flops_full_adds_what_was_prefilled():
    paper = flops_paper(100, 10, 4e9, 12e9)
    assert flops_full(100, 10, 4e9, 12e9, 0, 0) == paper
    assert flops_full(100, 10, 4e9, 12e9, 1000, 500) == pytest.approx(paper + 2 * (4e9 * 1000 + 12e9 * 500) / 1e12)


def test_flops_of_arrays_have_their_shape_and_do_not_overflow():
    small, large = np.array([1, 2**31 - 1], np.int32), np.array([0, 2**31 - 1], np.int32)
    flops = flops_full(small, large, 1.5e9, 7e9, small, large)
    assert flops.shape == (2,) and flops.dtype == np.float64
    assert flops[0] == pytest.approx(4 * 1.5e9 / 1e12)
    assert flops[1] == pytest.approx(4 * (1.5e9 + 7e9) * (2**31 - 1) / 1e12)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_interval_as_published(correct, n, low, high):
    """Newcombe (1998), Table I, method 3; the case 0 of 20 is its formula z^2 / (n + z^2)."""
    assert accuracy_interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_no_questions_say_nothing_and_impossible_counts_are_refused():
    assert accuracy_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 right answers of 4"):
        accuracy_interval(5, 4)


def test_clustered_interval_agrees_with_wilson_for_one_answer_a_question():
    correct = np.arange(800) < 600
    low, high = clustered_interval(correct[:, None])
    assert (low, high) == pytest.approx(accuracy_interval(600, 800), abs=0.006)


def test_repeated_answers_do_not_narrow_the_interval_unless_they_differ():
    rng = np.random.default_rng(0)
    hard = rng.random(400) < 0.7
    copies = np.repeat(hard[:, None], 10, axis=1)
    assert clustered_interval(copies, seed=1) == clustered_interval(hard[:, None], seed=1)
    independent = rng.random((400, 10)) < 0.7
    width = np.diff(clustered_interval(independent))[0]
    assert width < 0.5 * np.diff(clustered_interval(copies))[0]


def test_clustered_interval_is_seeded_and_covers_the_mean():
    correct = np.random.default_rng(1).random((50, 3)) < 0.6
    low, high = clustered_interval(correct, seed=4)
    assert low < correct.mean() < high
    assert (low, high) == clustered_interval(correct, seed=4) != clustered_interval(correct, seed=5)


def test_without_spread_between_questions_the_interval_is_wilsons():
    assert clustered_interval(np.ones((30, 3))) == accuracy_interval(30, 30)
    with pytest.raises(ValueError, match="questions, answers"):
        clustered_interval(np.ones(30))
