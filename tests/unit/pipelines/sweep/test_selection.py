"""Choosing thresholds and the random_query bar."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer.statistics.thresholds import Point, choose, random_query_accuracy

GRID = [Point("a", 0.80, 1.0), Point("b", 0.895, 2.0), Point("c", 0.905, 3.0), Point("d", 0.90, 4.0)]
POINTS = st.lists(st.builds(Point, st.text(max_size=2), st.floats(0, 1), st.floats(0.1, 100)), min_size=1, max_size=9)


def test_cheapest_within_takes_the_cheapest_inside_the_tolerance():
    assert choose(GRID, "cheapest_within", tolerance=1.0).setting == "b"
    assert choose(GRID, "cheapest_within", tolerance=0.5).setting == "c"
    assert choose(GRID, "cheapest_within", tolerance=20).setting == "a"


def test_a_point_exactly_at_the_tolerance_counts():
    assert choose([Point("x", 0.57, 1.0), Point("y", 0.58, 2.0)], "cheapest_within", 1.0).setting == "x"


def test_accuracy_takes_the_best_and_the_cheaper_of_equals():
    assert choose(GRID, "accuracy").setting == "c"
    assert choose([Point("x", 0.9, 2.0), Point("y", 0.9, 1.0)], "accuracy").setting == "y"


def test_budget_takes_the_most_accurate_it_allows():
    assert choose(GRID, "budget", budget=2.5).setting == "b"
    assert choose(GRID, "budget", budget=9).setting == "c"


def test_a_budget_below_every_point_takes_the_cheapest():
    assert choose(GRID, "budget", budget=0.5).setting == "a"


def test_nothing_to_choose_from_is_an_error():
    with pytest.raises(ValueError, match="no measured setting"):
        choose([], "accuracy")


@given(POINTS, st.floats(0, 5))
def test_the_chosen_point_is_never_beaten_inside_the_tolerance(points, tolerance):
    chosen = choose(points, "cheapest_within", tolerance)
    best = max(p.accuracy for p in points)
    assert chosen.accuracy >= best - tolerance / 100 - 1e-8
    assert all(p.flops_paper >= chosen.flops_paper for p in points if p.accuracy >= best - tolerance / 100)


BAR = [Point("large", 0.9, 10.0), Point("small", 0.6, 2.0), Point("p=0.5", 0.7, 6.0)]


def test_the_bar_is_piecewise_linear_and_clamped():
    assert random_query_accuracy(4.0, BAR) == pytest.approx(0.65)
    assert random_query_accuracy(8.0, BAR) == pytest.approx(0.8)
    assert random_query_accuracy(1.0, BAR) == pytest.approx(0.6)
    assert random_query_accuracy(99.0, BAR) == pytest.approx(0.9)


def test_points_of_equal_cost_are_averaged():
    bar = [Point("a", 0.4, 1.0), Point("b", 0.6, 1.0), Point("c", 0.9, 2.0)]
    assert random_query_accuracy(1.0, bar) == pytest.approx(0.5)


def test_a_benchmark_without_a_bar_has_none():
    assert math.isnan(random_query_accuracy(1.0, []))
