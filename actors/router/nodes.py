"""Which nodes of the cluster are lost, which are about to leave (spot notice, scale-in, drain), and what waits for one.

This file and `pipelines/cluster/autoscaler.py` alone use what Ray keeps private. Invariant: calls to Ray's GCS block,
so they run in a thread and not on the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray._private import state
from ray.autoscaler.v2.sdk import get_cluster_resource_state

POOL_LABEL = "steer-pool"
"""Key of the node label that says which pool's replicas a node takes."""

WATCH_S = 1.5
"""Seconds between two looks for draining nodes. A spot notice comes 30 s to 2 min ahead."""


async def lost_nodes() -> set[str]:
    """Ids of the dead nodes of this cluster; none while its head does not answer."""
    try:
        nodes = await asyncio.to_thread(ray.nodes)
    except Exception:
        return set()  # a GCS that restarts
    return {node["NodeID"] for node in nodes if not node["Alive"]}


async def watch_draining(tell: Iterable[Callable[[set[str]], None]]) -> None:
    """Pass the ids of draining nodes to each of `tell` whenever there are any, until cancelled."""
    while True:
        try:
            # Ray 2.60 has no public call for these. Ray Train and Ray Data read them in the same way.
            draining = set(await asyncio.to_thread(state.state.get_draining_nodes))
        except Exception:
            # A GCS that restarts does not answer for a while. If it is gone for good, the router ends too.
            draining = set()
        if draining:
            for hear in tell:
                hear(draining)
        await asyncio.sleep(WATCH_S)


async def waits_for_node(resources: Mapping[str, float], label: str | None) -> bool:
    """Whether Ray looks for a node for some actor with these resources and this value of the label `steer-pool`.

    False: Ray has a node for each, and prepares their processes. True also while the cluster's head does not answer.
    """
    try:
        return await asyncio.to_thread(_in_queue, resources, label)
    except Exception:
        return True  # a GCS that restarts


def _in_queue(resources: Mapping[str, float], label: str | None) -> bool:
    # Ray 2.60 has no public call for this. `ray status` reads it in the same way. An actor whose packages are being
    # installed is not among these requests (measured with a `pip` runtime_env).
    queue = get_cluster_resource_state(ray._private.worker.global_worker.gcs_client).pending_resource_requests
    return any(
        (_rounded(each.request.resources_bundle), _label(each.request)) == (_rounded(resources), label)
        for each in queue
    )


def _rounded(resources: Mapping[str, float]) -> dict[str, float]:
    """Amounts as Ray keeps them: in units of 1/10,000."""
    return {name: round(amount, 4) for name, amount in resources.items()}


def _label(request: Any) -> str | None:
    """Value of the label `steer-pool` that a request wants."""
    constraints = (each for selector in request.label_selectors for each in selector.label_constraints)
    return next((each.label_values[0] for each in constraints if each.label_key == POOL_LABEL), None)
