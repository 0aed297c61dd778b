"""Each router's share of the pools.

Invariant: the shares of a pool add up to the pool. Two shares differ by one replica at most.
"""

from collections.abc import Iterable, Iterator

from steer.config.run import PoolConfig, PoolsConfig
from steer.traces import Role


def pool_shares(pools: PoolsConfig, roles: Iterable[Role]) -> list[PoolsConfig]:
    """What each of the `pools.routers` routers has of the pools of these roles. The pools of other roles are not split,
    because no router starts them. Raises ValueError with a line for every pool that is too small."""
    wanted = tuple(roles)
    problems = list(share_problems(pools, wanted))
    if problems:
        raise ValueError("\n".join(problems))
    return [
        pools.model_copy(
            update={
                "routers": 1,
                **{role.label: _share(getattr(pools, role.label), number, pools.routers) for role in wanted},
            }
        )
        for number in range(pools.routers)
    ]


def share_problems(pools: PoolsConfig, roles: Iterable[Role]) -> Iterator[str]:
    """A line for every pool of these roles that has fewer replicas than there are routers.

    An elastic pool needs a replica for each router at its largest. At its smallest only the small model's does, since
    every trace begins there: of another pool some routers may have none until their first row.
    """
    for role in roles:
        pool = getattr(pools, role.label)
        if pool.max_replicas is None:
            key, held = "replicas", pool.replicas
        elif pool.most < pools.routers or role != Role.SMALL:
            key, held = "max_replicas", pool.most
        else:
            key, held = "replicas" if pool.min_replicas is None else "min_replicas", pool.least
        if held < pools.routers:
            yield (
                f"pools.{role.label}.{key} = {held} is fewer than pools.routers = {pools.routers}: every router needs "
                f"a replica of its own; set pools.{role.label}.{key} to at least {pools.routers}, or pools.routers to "
                f"at most {held}"
            )


def split_evenly(total: int, number: int, parts: int) -> int:
    """The size of one part of `total`. The first parts have one more where it does not come out even."""
    return (total - number + parts - 1) // parts


def _share(pool: PoolConfig, number: int, routers: int) -> PoolConfig:
    least = split_evenly(pool.least, number, routers)
    if pool.max_replicas is None:
        return pool.model_copy(update={"replicas": least})
    most = split_evenly(pool.most, number, routers)
    return pool.model_copy(update={"replicas": max(least, 1), "min_replicas": least, "max_replicas": most})
