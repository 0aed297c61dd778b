"""When a pool grows and what it lets go; no clock, no cluster."""

import pytest

from actors.router.autoscaling import IDLE_S, Autoscaler, Demand

START_S = 20.0


def demand(at_s=0.0, rows=0, traces=None, replicas=1, **given):
    measured = {"to_come": 0.0, "step_s": 1.0, "start_s": START_S}
    return Demand(at_s, rows, rows if traces is None else traces, replicas=replicas, **{**measured, **given})


def follow(scaler, moments, replicas):
    """Wanted numbers over (at_s, rows, traces), each carried out at once."""
    wanted = []
    for at_s, rows, traces in moments:
        replicas = scaler.wanted(demand(at_s, rows, traces, replicas))
        wanted.append(replicas)
    return wanted


def test_a_pool_at_zero_starts_its_first_replica_for_its_first_row_and_no_more_before_anything_is_measured():
    scaler = Autoscaler(0, 4, 10)
    assert scaler.wanted(demand(replicas=0, step_s=None, start_s=None)) == 0
    assert scaler.wanted(demand(rows=1000, replicas=0, step_s=None, start_s=None)) == 1
    assert scaler.wanted(demand(rows=1000, replicas=1, step_s=None, start_s=None)) == 1


def test_it_grows_only_where_rows_do_not_fit_and_the_work_left_pays_for_the_start():
    assert Autoscaler(1, 4, 10).wanted(demand(rows=10, to_come=1e6)) == 1, "all fit at once"
    assert Autoscaler(1, 4, 10).wanted(demand(rows=100)) == 1, "10 s of work, 20 s to load"
    assert Autoscaler(1, 4, 10).wanted(demand(rows=100, to_come=500)) == 2, "60 s for one, 30 s for two"
    assert Autoscaler(1, 4, 10).wanted(demand(rows=100, to_come=1e6)) == 4
    assert Autoscaler(1, 9, 10).wanted(demand(rows=35, traces=35, to_come=1e6)) == 4, "a fifth would have no row"


def test_it_counts_those_that_are_starting():
    scaler = Autoscaler(1, 4, 10)
    assert scaler.wanted(demand(rows=100, to_come=500, replicas=2)) == 2


def test_a_pause_between_rounds_lets_nobody_go():
    moments = [(t, 40 if t % 10 < 5 else 0, 40) for t in range(100)]
    assert set(follow(Autoscaler(1, 4, 10), moments, 4)) == {4}


def test_what_was_not_needed_for_as_long_as_a_start_takes_is_let_go():
    moments = [(t, 40 if t == 0 else 15, 40) for t in range(40)]
    wanted = follow(Autoscaler(1, 4, 10), moments, 4)
    assert wanted[: int(START_S)] == [4] * int(START_S) and wanted[-1] == 2


def test_in_the_tail_what_cannot_be_needed_again_goes_soon():
    moments = [(0, 40, 40), (1, 0, 12), (1 + IDLE_S, 0, 12), (2 + IDLE_S, 0, 0), (2 + 2 * IDLE_S, 0, 0)]
    assert follow(Autoscaler(0, 4, 10), moments, 4) == [4, 4, 2, 2, 0]


def test_queued_traces_keep_replicas_through_a_lull():
    moments = [(0, 40, 1000), (5, 0, 1000), (15, 0, 1000)]
    assert follow(Autoscaler(0, 4, 10), moments, 4) == [4, 4, 4]


@pytest.mark.parametrize("rows", [11, 20, 33])
def test_a_steady_load_never_flaps(rows):
    scaler, replicas, seen = Autoscaler(1, 4, 10), 1, []
    for t in range(600):
        # work for 10 more minutes, at a rate that rounding moves between two sizes
        replicas = scaler.wanted(demand(t, rows + t % 2, rows, replicas, to_come=5000.0))
        seen.append(replicas)
    assert seen == sorted(seen), "it grows once and stays"


def test_one_replica_stays_while_a_row_is_out():
    wanted = follow(Autoscaler(0, 2, 10), [(t, 1, 1) for t in range(0, 200, 5)], 2)
    assert wanted[-1] == 1
