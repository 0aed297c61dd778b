"""Tells a cluster's autoscaler what the pools will start with, so that nodes come up while the benchmark is read.

The request stands until it is taken back, and holds nodes while it stands: `session` takes it back once the pools are
loaded, so that nodes may go in the tail, and `prewarmed` whatever happens. Ray keeps one such request a cluster, the
last one: of two runs that start at the same time, the second's counts. Without an autoscaler nothing comes of it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ray.autoscaler.sdk import request_resources

from steer.config.run import PoolsConfig
from steer.traces import Role

_stands = False
"""Whether this process has a request standing: another run's is not ours to take back."""


@contextmanager
def prewarmed(pools: PoolsConfig, roles: Sequence[Role]) -> Iterator[None]:
    """On the cluster that RAY_ADDRESS names; on one of our own there is nothing to bring up."""
    global _stands
    bundles, selectors = first_bundles(pools, roles)
    if bundles and os.environ.get("RAY_ADDRESS"):
        _stands = True
        request_resources(bundles=bundles, bundle_label_selectors=selectors)
    try:
        yield
    finally:
        clear_request()


def clear_request() -> None:
    """Take the request back, if there is one of ours."""
    global _stands
    if _stands:
        request_resources(bundles=[], bundle_label_selectors=[])
        _stands = False


def first_bundles(pools: PoolsConfig, roles: Sequence[Role]) -> tuple[list[dict], list[dict]]:
    """(resources, label selector) of every replica that the pools begin with and that needs any."""
    bundles, selectors = [], []
    for pool in (getattr(pools, role.label) for role in roles):
        needs = {name: amount for name, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount}
        for _ in range(pool.least if needs else 0):
            bundles.append(needs)
            selectors.append({"steer-pool": pool.label} if pool.label else {})
    return bundles, selectors
