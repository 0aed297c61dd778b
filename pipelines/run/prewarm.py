"""Ask the cluster's autoscaler for the nodes that the pools begin with, so that they start while the benchmark is read.

The request holds nodes until it is withdrawn. `session` withdraws it once the pools are loaded, so that nodes can leave
in the tail. `prewarmed` withdraws it in any case. Ray keeps only the latest request of a cluster: if two runs start at
the same time, the request of the second counts. On a cluster without an autoscaler the request has no effect.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ray.autoscaler.sdk import request_resources

from steer.config.run import PoolsConfig
from steer.traces import Role

_requested = False
"""Whether this process has made a request. The request of another run must not be withdrawn."""


@contextmanager
def prewarmed(pools: PoolsConfig, roles: Sequence[Role]) -> Iterator[None]:
    """Make the request for as long as the block runs. Only on the cluster that RAY_ADDRESS names: a cluster of this
    process's own has one node."""
    global _requested
    bundles, selectors = first_bundles(pools, roles)
    if bundles and os.environ.get("RAY_ADDRESS"):
        _requested = True
        request_resources(bundles=bundles, bundle_label_selectors=selectors)
    try:
        yield
    finally:
        clear_request()


def clear_request() -> None:
    """Withdraw the request, if this process has made one."""
    global _requested
    if _requested:
        request_resources(bundles=[], bundle_label_selectors=[])
        _requested = False


def first_bundles(pools: PoolsConfig, roles: Sequence[Role]) -> tuple[list[dict], list[dict]]:
    """(resources, label selectors) of the replicas that the pools begin with, without those that need no resources."""
    bundles, selectors = [], []
    for pool in (getattr(pools, role.label) for role in roles):
        needs = {name: amount for name, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount}
        for _ in range(pool.least if needs else 0):
            bundles.append(needs)
            selectors.append({"steer-pool": pool.label} if pool.label else {})
    return bundles, selectors
