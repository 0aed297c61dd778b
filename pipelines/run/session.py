"""One run's hold on Ray: a local cluster or an existing one, and the router actor with its pools.

Invariant: however a session ends (result, exception, Ctrl-C, SIGTERM), the replicas and the router are gone, and so is
the cluster where this process started it.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray

from actors.router.roles import PAIR
from actors.router.router import Router
from actors.router.stats import RouterStats
from pipelines.run.prewarm import clear_request
from steer.config.policy import PolicyConfig
from steer.config.run import PairConfig, PoolsConfig
from steer.messages import EngineInfo
from steer.traces import Role

DATA_TASKS = 2
"""Ray Data tasks that a cluster of our own has logical CPUs for, beside its engines: on a laptop of two cores they
share, and none waits for good."""
OBJECT_STORE_BYTES = 512 * 2**20
"""Traces travel in blocks of a few MiB and bodies in the actors' own calls: half a GiB is plenty on one machine."""
ROUTER_CALLS = 10_000
"""Calls the router takes at the same time: one open call a group in flight, and the short ones beside them."""
CLOSE_S = 10.0
STATS_S = 5.0


class StartFailed(Exception):
    """The models could not be started; the message says why."""


@dataclass(frozen=True)
class Session:
    router: Any
    """Ray handle of `actors.router.Router`."""

    @property
    def infos(self) -> dict[Role, EngineInfo]:
        """What runs, or ran, at each role; one that started with no replica is missing until its first is loaded."""
        return ray.get(self.router.infos.remote(), timeout=STATS_S)

    @property
    def small(self) -> EngineInfo:
        return self.infos[Role.SMALL]

    @property
    def large(self) -> EngineInfo:
        return self.infos[Role.LARGE]

    def stats(self) -> RouterStats:
        return ray.get(self.router.stats.remote(), timeout=STATS_S)


@contextmanager
def cluster(verbose: bool = False, engines: int = len(PAIR)) -> Iterator[None]:
    """Ray, for as long as the block runs: the cluster that RAY_ADDRESS names (inside `ray job submit` Ray sets it), or
    one of this process's own, which has room for so many engines of one CPU and ends with the block."""
    address = os.environ.get("RAY_ADDRESS")
    level = "WARNING" if verbose else "ERROR"
    if address:
        ray.init(address=address, log_to_driver=verbose, logging_level=level)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, engines + DATA_TASKS),
            include_dashboard=False,
            log_to_driver=verbose,
            logging_level=level,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    try:
        with sigterm_as_interrupt():  # here, since ray.init puts a handler of its own in place
            yield
    finally:
        ray.shutdown()


def beside_driver() -> dict[str, str]:
    """Label selector for what the run cannot lose without its driver's node being lost too, which is not one to be
    preempted. (Ray 2.60 places an actor without CPUs on any node, whatever a soft NodeAffinitySchedulingStrategy says.)
    """
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


@contextmanager
def session(
    pair: PairConfig,
    pools: PoolsConfig,
    replica_class: type | None = None,
    roles: Sequence[Role] = PAIR,
    policies: Sequence[PolicyConfig] = (),
    journal: str | None = None,
) -> Iterator[Session]:
    """A started router on the `cluster` around it, with a pool for each of the `roles`: what these begin with is loaded
    when the block begins. `policies`: those of the run, of which the router makes the `custom` ones first. `journal`:
    the folder in which it keeps live traces. Raises StartFailed."""
    # num_cpus=0: the router waits most of the time, and must get a place on a node full of engines.
    router = ray.remote(Router).options(
        num_cpus=0, max_concurrency=ROUTER_CALLS, max_restarts=0, label_selector=beside_driver()
    )
    handle = router.remote(pair, pools, replica_class, roles, journal)
    try:
        try:
            ray.get(handle.start.remote([policy for policy in policies if policy.name == "custom"]))
        except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError) as failure:
            cause = getattr(failure, "cause", None) or failure
            raise StartFailed(f"the models did not start: {cause}") from failure
        clear_request()
        yield Session(handle)
    finally:
        with _held_back(signal.SIGINT, signal.SIGTERM):
            with suppress(Exception):  # a router that is gone has nothing left to close
                ray.get(handle.close.remote(), timeout=CLOSE_S)
            ray.kill(handle)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM (a scheduler's stop, `ray job stop`) ends the block as Ctrl-C does. Main thread only; elsewhere no-op."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _held_back(*signals: int) -> Iterator[None]:
    """A second Ctrl-C must not cut the cleaning up short: signals of the block are delivered after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda n, _: arrived.append(n)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            raise KeyboardInterrupt
