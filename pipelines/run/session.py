"""What a run starts on Ray: a local cluster, unless it uses an existing one, and the routers with their pools.

Invariant: however a session ends (result, exception, Ctrl-C, SIGTERM), its replicas and its routers are gone, and so is
the cluster if this process started it.
"""

import math
import os
import signal
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray

from actors.router.journal_folders import journal_folder
from actors.router.router import Router
from actors.router.stats import RouterStats
from pipelines.cluster.events import EventFeed
from pipelines.run.prewarm import clear_request
from pipelines.run.progress import StartProgress
from pipelines.run.routers import Routers
from pipelines.run.run_lock import SUPERSEDED
from steer.config.policy import PolicyConfig
from steer.config.run import PairConfig, PoolsConfig
from steer.config.shares import pool_shares
from steer.events import Event
from steer.messages import EngineInfo
from steer.traces import PAIR, Role

DATA_TASKS = 2
"""Logical CPUs of a local cluster for Ray Data's tasks, besides one for each engine. On a laptop of two cores they all
share, and no task waits for ever."""
OBJECT_STORE_BYTES = 512 * 2**20
"""Object store of a local cluster. Half a GiB is plenty: traces travel in blocks of a few MiB, and prefixes in calls
between actors."""
ROUTER_CALLS = 10_000
"""Calls that a router takes at the same time: an open one for each group in flight, and short ones besides."""
CLOSE_S = 10.0
"""Seconds that the routers have to kill their replicas, before they are killed themselves."""
STATS_S = 5.0
"""Seconds after which a call for the routers' counts fails."""


REASON_CHARS = 300
"""Longest reason of Ray's in a message: two lines of a terminal or three."""
CONNECT_S = 30.0
"""Seconds in which a cluster's head must take a connection. A head that restarts is back within them; Ray itself tries
for more than five minutes."""
TRY_S = 5.0
"""Seconds of one try: a host that drops packets gives no answer at all."""
RETRY_S = 1.0
"""Seconds between two tries to connect."""


class StartFailed(Exception):
    """Ray or the models could not be started. The message says why, and what to do."""


@dataclass(frozen=True)
class Session:
    """Started routers."""

    routers: Routers
    events: EventFeed
    """What tells of the replicas' events."""
    counted: list[RouterStats] = field(default_factory=lambda: [RouterStats()])
    """Its last item: what of the routers' counts is in the run's totals (`pipelines.report.totals`)."""

    @property
    def router(self) -> Any:
        """Ray handle of the first router. It is the only one, unless `pools.routers` says more."""
        return self.routers.handles[0]

    @property
    def infos(self) -> dict[Role, EngineInfo]:
        """What each role's first replica said of itself. A role is missing until a replica of it was loaded."""
        return self.routers.infos(STATS_S)

    @property
    def small(self) -> EngineInfo:
        return self.infos[Role.SMALL]

    @property
    def large(self) -> EngineInfo:
        return self.infos[Role.LARGE]

    def stats(self) -> RouterStats:
        return self.routers.stats(STATS_S)


@contextmanager
def cluster(verbose: bool = False, engines: int = len(PAIR)) -> Iterator[None]:
    """Connect to Ray for as long as the block runs.

    The cluster is the one that RAY_ADDRESS names (inside `ray job submit` Ray sets it). Without that variable it is a
    local one, which has room for `engines` engines of one CPU each and ends with the block. Raises StartFailed if Ray
    cannot be started or connected to.
    """
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": verbose, "logging_level": "WARNING" if verbose else "ERROR"}
    if address:
        _start_ray(address, options)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cpus = max(os.cpu_count() or 1, engines + DATA_TASKS)
        local = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        _start_ray("local", options | local)
    try:
        with sigterm_as_interrupt():  # After ray.init, which sets a handler of its own.
            yield
    finally:
        ray.shutdown()


def engine_cpus(pools: PoolsConfig, roles: Sequence[Role]) -> int:
    """The CPUs of the replicas that these pools begin with, and of one replica of a pool that begins with none."""
    wanted = [getattr(pools, role.label) for role in roles]
    return math.ceil(sum(max(pool.least, 1) * pool.cpus for pool in wanted))


def _start_ray(address: str, options: dict[str, Any]) -> None:
    """`ray.init`, with one message for whatever it raises: Ray has no class of its own for most of that."""
    was_running = ray.is_initialized()
    try:
        if address != "local":
            _refuse_silent_head(address)
        ray.init(address=address, **options)
    except Exception as failure:
        if not was_running:
            with suppress(Exception):  # Half of it may run.
                ray.shutdown()
        raise StartFailed(_why_ray_failed(address, failure)) from failure


def _refuse_silent_head(address: str) -> None:
    """Raise OSError if nobody takes a connection at `host:port`: at once if there is no such host, else after a word on
    stderr and `CONNECT_S`. Addresses of another form are left to Ray."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return
    deadline_s = time.monotonic() + CONNECT_S
    said = False
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=TRY_S).close()
            return
        except (socket.gaierror, OverflowError):  # No such host, or no such port.
            raise
        except OSError as failure:
            if time.monotonic() >= deadline_s:
                raise
            if not said:
                reason = str(failure) or type(failure).__name__
                print(
                    f"no answer from RAY_ADDRESS={address} yet ({reason}); trying for {CONNECT_S:.0f} s",
                    file=sys.stderr,
                )
                said = True
        time.sleep(RETRY_S)


def _why_ray_failed(address: str, failure: Exception) -> str:
    """What could not be done, Ray's reason in one line, and the remedy."""
    text = " ".join(str(failure).split()) or type(failure).__name__
    reason = textwrap.shorten(text, REASON_CHARS, placeholder=" ...").rstrip(".")
    if address == "local":
        if isinstance(failure, OSError) and not isinstance(failure, ConnectionError | TimeoutError):
            remedy = "give Ray a folder with a short path, free space and your write access: RAY_TMPDIR=/tmp/ray-mine"
        else:
            remedy = (
                "the machine may be too busy, or short of memory, disk or ports: try again, with less beside it (Ray's "
                "logs: /tmp/ray/session_latest/logs)"
            )
        return f"Ray could not start on this machine: {reason}; {remedy}"
    if "version mismatch" in reason.lower():
        remedy = "install the cluster's versions of Ray and Python here"
    else:
        remedy = "see that the cluster runs and that this is its head's address"
    remedy += ", or unset RAY_ADDRESS for a cluster of this command's own"
    return f"Ray could not connect to RAY_ADDRESS={address}: {reason}; {remedy}"


def beside_driver() -> dict[str, str]:
    """Label selector of the driver's node, which should not be a preemptible one. What runs there is lost only together
    with the driver. (Ray 2.60 places an actor without CPUs on any node, whatever a soft NodeAffinitySchedulingStrategy
    says.)"""
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


@contextmanager
def session(
    pair: PairConfig,
    pools: PoolsConfig,
    replica_class: type | None = None,
    roles: Sequence[Role] = PAIR,
    policies: Sequence[PolicyConfig] = (),
    journal: str | None = None,
    run: str = "",
    write_events: Callable[[Sequence[Event]], None] | None = None,
) -> Iterator[Session]:
    """Started routers with a pool for each of the `roles`, for as long as the block runs. Call this inside `cluster`.

    The replicas that the pools begin with are loaded when the block begins. `policies`: those of the run. The routers
    make the `custom` ones first, to see whether they can. `journal`: path or URL of the folder in which they keep live
    traces. None: they keep none. `run`: the run's name in the metrics. `write_events`: adds what happens to replicas to
    a table; it is printed in any case, and so is what they wait for while they start. Raises StartFailed, and
    ValueError for pools that cannot be shared among the routers.
    """
    shares = pool_shares(pools, roles)
    # num_cpus=0: a router waits most of the time, and must find room on a node full of engines. All are beside the
    # driver: on another node each would be one more machine whose loss starts all models again.
    router = ray.remote(Router).options(
        num_cpus=0, max_concurrency=ROUTER_CALLS, max_restarts=0, label_selector=beside_driver()
    )
    folders = [journal and journal_folder(journal, number, len(shares)) for number in range(len(shares))]
    # Column `replica` of steps/ names one replica of the run, whichever router it is of.
    prefixes = [f"{number}/" if len(shares) > 1 else "" for number in range(len(shares))]
    routers = Routers(
        tuple(
            router.remote(pair, share, replica_class, roles, folder, prefix, run)
            for share, folder, prefix in zip(shares, folders, prefixes, strict=True)
        )
    )
    try:
        with EventFeed(partial(routers.events, timeout_s=STATS_S), len(routers.handles), write_events) as feed:
            try:
                with StartProgress(partial(routers.stats, STATS_S), sys.stderr):
                    routers.start([policy for policy in policies if policy.name == "custom"])
            except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError) as failure:
                cause = getattr(failure, "cause", None) or failure
                raise StartFailed(f"the models did not start: {cause}") from failure
            clear_request()
            yield Session(routers, feed)
    finally:
        with _held_back(signal.SIGINT, signal.SIGTERM, SUPERSEDED):
            routers.close(CLOSE_S)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM (a scheduler's stop, `ray job stop`) end the block as Ctrl-C does. Does nothing outside the main
    thread."""
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
    """Hold back these signals while the block runs, then raise KeyboardInterrupt if one arrived: a second Ctrl-C must
    not cut the clean-up short."""
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
