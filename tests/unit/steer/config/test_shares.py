"""What each router gets of the pools, and which pools are too small to be shared."""

import pytest

from steer.config.load import SettingsError, load_config
from steer.config.run import PoolConfig, PoolsConfig
from steer.config.shares import pool_shares
from steer.traces import PAIR, Role


def shares(routers, small, large, roles=PAIR, **more):
    return pool_shares(PoolsConfig(routers=routers, small=small, large=large, **more), roles)


def test_one_router_has_the_pools_as_they_are():
    pools = PoolsConfig(small=PoolConfig(replicas=3), large=PoolConfig(min_replicas=0, max_replicas=2))
    (share,) = pool_shares(pools, PAIR)
    assert [(pool.least, pool.most) for pool in (share.small, share.large)] == [(3, 3), (0, 2)]


def test_fixed_pools_are_split_as_evenly_as_they_go():
    small, large = PoolConfig(replicas=7, gpus=1, label="small"), PoolConfig(replicas=3)
    found = shares(3, small, large)
    assert [share.small.replicas for share in found] == [3, 2, 2]
    assert [share.large.replicas for share in found] == [1, 1, 1]
    assert all(share.small.max_replicas is None and share.routers == 1 for share in found)
    assert all((share.small.gpus, share.small.label) == (1, "small") for share in found)


def test_both_bounds_of_an_elastic_pool_are_split_and_some_routers_may_begin_with_none():
    small, large = PoolConfig(min_replicas=2, max_replicas=5), PoolConfig(min_replicas=1, max_replicas=4)
    found = shares(2, small, large)
    assert [(share.small.least, share.small.most) for share in found] == [(1, 3), (1, 2)]
    assert [(share.large.least, share.large.most) for share in found] == [(1, 2), (0, 2)]


@pytest.mark.parametrize(
    ("small", "large", "key"),
    [
        (PoolConfig(), PoolConfig(replicas=2), "pools.small.replicas = 1"),
        (PoolConfig(replicas=2), PoolConfig(), "pools.large.replicas = 1"),
        (PoolConfig(min_replicas=1, max_replicas=4), PoolConfig(replicas=2), "pools.small.min_replicas = 1"),
        (PoolConfig(max_replicas=4), PoolConfig(replicas=2), "pools.small.replicas = 1"),
        (PoolConfig(replicas=2), PoolConfig(min_replicas=0, max_replicas=1), "pools.large.max_replicas = 1"),
    ],
)
def test_a_pool_with_fewer_replicas_than_routers_is_refused_by_the_key_to_change(small, large, key):
    with pytest.raises(ValueError, match=f"^{key} is fewer than pools.routers = 2: .* to at least 2") as refused:
        shares(2, small, large)
    assert str(refused.value).count("\n") == 0


def test_pools_of_signals_count_only_where_a_policy_needs_them():
    pools = {"small": PoolConfig(replicas=2), "large": PoolConfig(replicas=2), "prm": PoolConfig(replicas=1)}
    assert len(shares(2, **pools)) == 2
    with pytest.raises(ValueError, match=r"pools\.prm\.replicas = 1"):
        shares(2, **pools, roles=(*PAIR, Role.PRM))


def test_pools_that_are_too_small_are_refused_when_the_configuration_is_read():
    with pytest.raises(SettingsError, match=r"pools\.small\.replicas = 1 is fewer than pools\.routers = 2"):
        load_config(None, ["pools.routers=2"])
    sets = ["pools.routers=2", "pools.small.replicas=2", "pools.large.replicas=3"]
    assert load_config(None, sets).pools.routers == 2
