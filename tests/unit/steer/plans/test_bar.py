"""The bar, and how answers stand to it."""

import numpy as np
import pytest

from steer.plans.bar import bar_accuracy, coin, standing
from steer.plans.handover import Answers


def answers(correct, cost):
    correct = np.asarray(correct, float)
    return Answers(correct, np.full(len(correct), cost), np.full(len(correct), cost))


RNG = np.random.default_rng(0)
SMALL = answers(RNG.random(300) < 0.5, 1.0)
LARGE = answers(RNG.random(300) < 0.8, 5.0)


@pytest.mark.parametrize(
    ("cost", "expected"), [(1.0, 0.4), (3.0, 0.6), (5.0, 0.8), (9.0, 0.8), (0.1, 0.4)], ids=lambda v: str(v)
)
def test_the_bar_is_the_line_between_the_models(cost, expected):
    assert bar_accuracy(cost, 1.0, 0.4, 5.0, 0.8) == pytest.approx(expected)
    assert bar_accuracy(cost, 5.0, 0.8, 1.0, 0.4) == pytest.approx(expected)


def test_a_dearer_model_that_is_worse_does_not_lower_the_bar():
    assert bar_accuracy([1.0, 3.0, 5.0], 1.0, 0.7, 5.0, 0.6) == pytest.approx([0.7, 0.7, 0.7])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_the_coin_is_on_the_bar(p):
    found = standing(coin(SMALL, LARGE, p), SMALL, LARGE)
    assert found.cost == pytest.approx((1 + 4 * p) / 5) and found.above_bar == pytest.approx(0.0)
    assert not found.is_above_bar


def test_one_throw_of_the_coin_is_not_above_it_more_often_than_its_interval_says():
    above = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        small, large = answers(rng.random(200) < 0.5, 1.0), answers(rng.random(200) < 0.8, 5.0)
        thrown = rng.random(200) < 0.5
        mixed = Answers(*(np.where(thrown, b, s) for s, b in zip(small, large, strict=True)))
        above += standing(mixed, small, large, seed).is_above_bar
    assert above <= 13  # 2.5 % of 200, and three standard deviations


def test_the_interval_of_the_difference_is_that_of_resampled_questions():
    better = Answers(np.maximum(SMALL.correct, LARGE.correct), np.full(300, 3.0), np.full(300, 3.0))
    found = standing(better, SMALL, LARGE)
    difference_Q = better.correct - (SMALL.correct + LARGE.correct) / 2
    error = difference_Q.std() / np.sqrt(300)
    assert found.above_bar == pytest.approx(difference_Q.mean())
    assert found.above_bar_interval == pytest.approx(
        (found.above_bar - 1.96 * error, found.above_bar + 1.96 * error), abs=0.3 * error
    )
    assert found.is_above_bar


def test_without_questions_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no question"):
        standing(answers([], 1.0), answers([], 1.0), answers([], 1.0))
