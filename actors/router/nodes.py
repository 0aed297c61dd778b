"""Which nodes of the cluster are lost, and which are about to leave (spot notice, scale-in, drain).

Invariant: calls to Ray's GCS block, so they run in a thread and not on the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable

import ray
from ray._private import state

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
