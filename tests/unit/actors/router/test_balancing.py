"""Who gets which row: home, share by speed, credits."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from actors.router.balancing import balanced


def counts(shares):
    return {n: len(mine) for n, mine in shares.items()}


def test_replicas_of_one_speed_share_equally():
    shares, rest = balanced([-1] * 30, {1: 99, 2: 99, 3: 99}, {1: 0, 2: 0, 3: 0}, {1: None, 2: None, 3: None})
    assert not rest and counts(shares) == {1: 10, 2: 10, 3: 10}


def test_a_replica_that_takes_ten_times_as_long_gets_about_a_tenth():
    shares, _ = balanced([-1] * 110, {1: 999, 2: 999}, {1: 0, 2: 0}, {1: 1.0, 2: 10.0})
    assert counts(shares) == {1: 100, 2: 10}


def test_it_also_loses_the_traces_that_have_it_as_home_beyond_its_share():
    homes = [1] * 50 + [2] * 50
    shares, _ = balanced(homes, {1: 999, 2: 999}, {1: 0, 2: 0}, {1: 1.0, 2: 10.0})
    assert len(shares[2]) < 15
    equal, _ = balanced(homes, {1: 999, 2: 999}, {1: 0, 2: 0}, {1: 1.0, 2: 1.1})
    assert set(equal[2]) == set(range(50, 100)), "a tenth slower is no reason to move"


def test_one_that_is_not_measured_counts_as_fast_as_the_mean():
    shares, _ = balanced([-1] * 30, {1: 99, 2: 99}, {1: 0, 2: 0}, {1: 0.5, 2: None})
    assert counts(shares) == {1: 15, 2: 15}


@given(
    homes=st.lists(st.integers(-1, 4), max_size=60),
    free=st.dictionaries(st.integers(0, 4), st.integers(0, 30), min_size=1),
    step_s=st.lists(st.one_of(st.none(), st.floats(1e-3, 1e3)), min_size=5, max_size=5),
)
def test_every_row_goes_to_one_place_and_no_credit_is_overdrawn(homes, free, step_s):
    shares, rest = balanced(homes, free, dict.fromkeys(free, 3), {n: step_s[n] for n in free})
    placed = Counter(i for mine in (*shares.values(), rest) for i in mine)
    assert placed == Counter(range(len(homes)))
    assert all(len(mine) <= free[n] for n, mine in shares.items())
    assert len(rest) == max(len(homes) - sum(free.values()), 0)
