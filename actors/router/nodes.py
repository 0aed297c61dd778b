"""What the pools must know of the cluster's nodes: which are lost, and which will go (spot notice, scale-in, drain).

Every question to Ray's GCS blocks, so each is asked off the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable

import ray
from ray._private import state

WATCH_S = 1.5
"""Between looks for draining nodes: a spot notice comes 30 s to 2 min ahead."""


async def lost_nodes() -> set[str]:
    """Ids of the nodes that were in this cluster and are dead."""
    return {node["NodeID"] for node in await asyncio.to_thread(ray.nodes) if not node["Alive"]}


async def watch_draining(tell: Iterable[Callable[[set[str]], None]]) -> None:
    """Tell of draining nodes, each look that finds some, until cancelled."""
    while True:
        try:
            # No public call gives these in ray 2.60; Ray Train and Ray Data read them just so.
            draining = set(await asyncio.to_thread(state.state.get_draining_nodes))
        except Exception:
            # A GCS that restarts does not answer for a while; what ends it for good also ends the router.
            draining = set()
        if draining:
            for hear in tell:
                hear(draining)
        await asyncio.sleep(WATCH_S)
