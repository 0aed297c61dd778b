"""Which router has a group, and the counts of several routers together."""

from collections import Counter
from dataclasses import fields

from actors.router.stats import RouterStats
from pipelines.run.progress import ProgressSnapshot
from pipelines.run.routers import MAXIMA, MEANS, router_of_groups, summed
from pipelines.run.session import engine_cpus
from steer.config.run import PoolConfig, PoolsConfig
from steer.traces import PAIR, Role

CELLS = [{"name": f"cell {i}", "groups": groups} for i, groups in enumerate((1, 1, 5, 1, 4))]


def test_groups_that_are_in_flight_together_are_with_different_routers():
    for routers in (1, 2, 3):
        dealt = list(router_of_groups(CELLS, routers).values())
        assert len(dealt) == 12
        for i in range(len(dealt) - routers + 1):
            assert sorted(dealt[i : i + routers]) == list(range(routers))


def test_cells_that_come_later_change_no_group_s_router():
    first, all_cells = router_of_groups(CELLS[:3], 2), router_of_groups(CELLS, 2)
    assert first.items() <= all_cells.items() and Counter(all_cells.values()) == {0: 6, 1: 6}


def counts(number):
    """Counts of one router, with a different value in every field."""
    roles, stats = (Role.SMALL, Role.LARGE), RouterStats()
    for place, each in enumerate(fields(RouterStats)):
        value = 10**number * (place + 1)
        held = getattr(stats, each.name)
        if not isinstance(held, dict):
            setattr(stats, each.name, type(held)(value))
    stats.waiting = {Role.LARGE: "1 of 2 replicas wait for a node"} if number < 2 else {Role.SMALL: "no node"}
    stats.trace_s = {"out": 1.5 * number, f"part {number}": 1.0}
    stats.row_s = {(Role.SMALL, True): 2.0 * number}
    for name in ("replicas", "starting"):
        setattr(stats, name, dict.fromkeys(roles, number))
    for name in ("replica_s", "outstanding_s", "busy_s"):
        setattr(stats, name, dict.fromkeys(roles, 4.0 * number))
    return stats


def test_the_counts_of_one_router_are_its_own():
    stats = counts(1)
    assert summed([stats]) is stats


def test_counts_add_up_and_seconds_of_wall_time_do_not():
    routers = [counts(number) for number in range(3)]
    whole = summed(routers)
    for each in fields(RouterStats):
        held = [getattr(stats, each.name) for stats in routers]
        if isinstance(held[0], int | float):
            joined = max(held) if each.name in MAXIMA else sum(held) / (3 if each.name in MEANS else 1)
            assert getattr(whole, each.name) == joined, each.name
    assert whole.replicas == whole.starting == {Role.SMALL: 3, Role.LARGE: 3}
    assert whole.busy_s == whole.replica_s == {Role.SMALL: 12.0, Role.LARGE: 12.0}
    assert whole.outstanding_s == {Role.SMALL: 4.0, Role.LARGE: 4.0}
    assert whole.trace_s == {"out": 4.5, "part 0": 1.0, "part 1": 1.0, "part 2": 1.0}
    assert whole.row_s == {(Role.SMALL, True): 6.0}
    assert whole.waiting == {Role.LARGE: "1 of 2 replicas wait for a node (2 routers)", Role.SMALL: "no node"}


def test_a_router_that_has_got_more_traces_than_it_expected_does_not_hide_what_another_waits_for():
    ahead, behind = RouterStats(total=10, done=11), RouterStats(total=10, live=2, done=3)
    now = ProgressSnapshot.of(summed([ahead, behind]), 1.0)
    assert (now.total, now.live, now.done, now.queued) == (20, 2, 14, 4)


def test_a_cluster_of_one_s_own_has_room_for_the_replicas_of_all_routers():
    assert engine_cpus(PoolsConfig(), PAIR) == 2
    elastic = PoolConfig(min_replicas=0, max_replicas=8)
    assert engine_cpus(PoolsConfig(routers=3, small=PoolConfig(replicas=3), large=elastic), PAIR) == 4
    assert engine_cpus(PoolsConfig(small=PoolConfig(replicas=5, cpus=0.5)), (Role.SMALL,)) == 3
