"""One replica of a pool as the router sees it: a Ray actor, its open calls and the rows that are out there.

Invariant: a replica is never restarted in place. A new replica with a number of its own replaces a dead one, so nothing
takes the new process for the one that held the prefixes.
"""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ray

from actors.router.nodes import waits_for_node
from steer.config.run import ModelConfig, PoolConfig
from steer.config.secrets import hidden
from steer.messages import CallAnswers, EngineInfo, StepBatch

LAST = 0.3
"""Weight of the last call in a replica's `step_s`: one slow call moves it little, five in a row determine it."""
STALE_S = 60.0
"""A measured `step_s` is forgotten after so many seconds without a call, so a replica that was slow is tried again."""
ASK_AGAIN_S = 1.0
"""Seconds between two calls to a process that Ray cannot reach and does not know to be dead."""
LOOK_S = 2.0
"""Seconds between two looks whether a replica without a process still waits for a node."""

_numbers = itertools.count()


class ReplicaDied(Exception):
    """The replica's process or node is gone, or it did not answer in time."""

    def __init__(self, message: str):
        super().__init__(hidden(message))  # An engine's own message may repeat its arguments.


class ModelUnusable(ReplicaDied):
    """The replica is there, but its model cannot be loaded. Another replica could not load it either."""


class NotPlaced(ReplicaDied):
    """No node had room for the replica in time."""


class ReplicaState(StrEnum):
    """Where a replica is in its life. It may skip states, but never goes back."""

    WAITING = "waiting"
    """No process yet: it waits for a node, or Ray prepares the process there (packages of the job's environment)."""
    DOWNLOADING = "downloading"
    """Its node downloads the weights."""
    LOADING = "loading"
    """The engine loads the model."""
    LIVE = "live"
    """It takes rows."""
    LEAVING = "leaving"
    """It answers the rows that it has and takes no new ones."""


@dataclass
class OpenCall:
    """One call to a replica, from sending its rows until the last of them is answered to its end."""

    rows: Any
    """What was sent: the pool's business."""
    open: set[int]
    """Positions of the rows that are not answered to their end."""
    out: int
    """Rows that were out at the replica when the call was sent, its own included."""
    sent_s: float
    heard_s: float
    """When it was sent or last answered."""


class Replica:
    def __init__(self, name: str, actor, config: PoolConfig, downloads: bool = False):
        """`downloads`: whether the actor has a method `download` (`actors.engine.thread.EngineThread`)."""
        self.number = next(_numbers)
        self.name = name
        self.node: str | None = None
        """Ray's id of the node that the replica's process runs on. None: there is no process yet."""
        self.state = ReplicaState.WAITING
        self.since_s = time.monotonic()
        """When the state began."""
        self.queued = True
        """Of a replica that waits: whether it waits for a node. If not, Ray has one and prepares the process there."""
        self.in_flight = 0
        """Rows that are out at this replica."""
        self.calls: dict[int, OpenCall] = {}
        """Calls with rows that are not answered to their end, by number."""
        self.busy_s = 0.0
        """Seconds in which the engine has had work."""
        self.drop: list[str] = []
        """Keys of traces that the replica may forget. The next call carries them."""
        self.asked_s = time.monotonic()
        """When Ray was asked for the actor."""
        self._step_s, self._measured_s = 0.0, -math.inf
        self._placed_s: float | None = None
        self._killed_s: float | None = None
        self._actor = actor
        self._config = config
        self._downloads = downloads

    @classmethod
    def spawn(cls, name: str, replica_class: type, model: ModelConfig, pool: PoolConfig, measures) -> "Replica":
        """Ask Ray for the actor. Returns at once and raises nothing: `load` raises if it cannot be placed or loaded."""
        selector = {"steer-pool": pool.label} if pool.label else None
        actor = (
            ray.remote(replica_class)
            .options(
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
                label_selector=selector,
                max_restarts=0,
                max_task_retries=0,  # A step is sampling: Ray must not retry it, the router asks again.
            )
            .remote(name, model, pool, measures)
        )
        return cls(name, actor, pool, hasattr(replica_class, "download"))

    async def load(self, patient: bool) -> EngineInfo:
        """Wait until the engine is loaded. Raises ReplicaDied with the reason if it cannot be.

        Loading may take `start_timeout_s`, from the moment at which the process is up and the weights are on its node:
        a package or a download that takes an hour is no failed start. `patient`: wait for a node without end.
        Otherwise waiting for one may take `start_timeout_s` too.
        """
        timeout_s = self._config.start_timeout_s
        try:
            await self._place(math.inf if patient else timeout_s)
            if self._downloads:
                self.becomes(ReplicaState.DOWNLOADING)
                await self._answer(lambda: self._actor.download.remote())
            self.becomes(ReplicaState.LOADING)
            async with asyncio.timeout(timeout_s):
                return await self._answer(lambda: self._actor.describe.remote())
        except TimeoutError:
            late = f"replica {self.name} was not ready after {timeout_s:g} s: its model was still loading"
            raise ReplicaDied(f"{late}. Otherwise raise pools.*.start_timeout_s.") from None
        except ray.exceptions.RayTaskError as error:
            raise ModelUnusable(str(error.cause)) from error
        except ray.exceptions.RayError as error:
            raise ReplicaDied(f"replica {self.name} did not start: {error}") from error

    async def _place(self, timeout_s: float) -> None:
        """Wait until the process is up. Raises NotPlaced after `timeout_s` without a node. The time in which Ray has a
        node and installs packages there does not count."""
        up = asyncio.ensure_future(self._answer(lambda: self._actor.__ray_call__.remote(_node)))
        queued_s, looked_s = 0.0, time.monotonic()
        try:
            while not (await asyncio.wait({up}, timeout=min(LOOK_S, timeout_s)))[0]:
                self.queued = await waits_for_node(resources(self._config), self._config.label)
                now_s = time.monotonic()
                queued_s, looked_s = queued_s + self.queued * (now_s - looked_s), now_s
                if queued_s >= timeout_s:
                    raise NotPlaced(
                        f"replica {self.name} was not ready after {timeout_s:g} s: is there a node with "
                        f"{needs(self._config)}? Otherwise raise pools.*.start_timeout_s."
                    )
            self.node = up.result()
            self._placed_s = time.monotonic()
        finally:
            up.cancel()

    def becomes(self, state: ReplicaState) -> None:
        self.state, self.since_s = state, time.monotonic()

    async def _answer(self, ask):
        """The answer to `ask()`, which is asked again while Ray cannot reach the process: that does not mean it is
        dead."""
        while True:
            try:
                return await asyncio.wrap_future(ask().future())
            except ray.exceptions.ActorUnavailableError:
                await asyncio.sleep(ASK_AGAIN_S)

    async def submit(self, call: int, batch: StepBatch) -> None:
        """Send a batch. Raises ReplicaDied if the actor is gone or refuses it."""
        await self._told(self._actor.submit.remote(call, batch))

    async def cut(self, rows: list[tuple[int, int]]) -> None:
        """Have rows, by call and position, stop writing. Raises ReplicaDied if the actor is gone."""
        await self._told(self._actor.cut.remote(rows))

    async def _told(self, ref) -> None:
        try:
            await asyncio.wrap_future(ref.future())
        except ray.exceptions.RayError as error:
            raise self._death(error) from error

    async def answers(self) -> AsyncIterator[list[CallAnswers]]:
        """Yield messages as they come, as long as the actor lives.

        Raises ReplicaDied if the actor is gone, a call fails in it, or it is silent about a call for `step_timeout_s`.
        """
        while True:
            stream = self._actor.answers.options(num_returns="streaming").remote()
            try:
                async for message in self._messages(stream):
                    for answers in message:
                        self.busy_s = max(self.busy_s, answers.results.busy_s)
                    yield message
            except ray.exceptions.RayError as error:
                raise self._death(error) from error

    async def _messages(self, stream) -> AsyncIterator[list[CallAnswers]]:
        """The messages of one stream."""
        look_s = min(self._config.step_timeout_s / 4, 10.0)
        while True:
            coming = asyncio.ensure_future(anext(stream))
            try:
                while not (await asyncio.wait({coming}, timeout=look_s))[0]:
                    self._refuse_silence()
                yield await coming.result()
            except StopAsyncIteration:
                return
            finally:
                coming.cancel()

    def _refuse_silence(self) -> None:
        """Raise ReplicaDied if there was no answer to one of the calls for too long."""
        timeout_s = self._config.step_timeout_s
        if any(time.monotonic() - call.heard_s > timeout_s for call in self.calls.values()):
            raise ReplicaDied(f"{self.name} did not answer within {timeout_s:g} s")

    def _death(self, error: ray.exceptions.RayError) -> ReplicaDied:
        # The actor is gone, or a call failed in it. Its rows have no answer, and the actor's state is unknown.
        failed = isinstance(error, ray.exceptions.RayTaskError)
        reason = error.cause if failed else (str(error).splitlines() or [type(error).__name__])[0]
        return ReplicaDied(f"{self.name} died: {reason}")

    def measured(self, seconds: float, rows: int) -> None:
        """Note that a call took `seconds` from sending to its last answer.

        `rows`: rows that were out at this replica, those of the call included. If they are fewer than it takes at once,
        their number is taken to make no difference: a replica with few rows does not count as slow.
        """
        step_s = seconds / max(rows / self._config.max_num_seqs, 1.0)
        self._step_s = step_s if self.step_s is None else self._step_s + LAST * (step_s - self._step_s)
        self._measured_s = time.monotonic()

    @property
    def step_s(self) -> float | None:
        """Seconds in which the replica answers as many rows as it takes at once. None: not measured lately."""
        return self._step_s if time.monotonic() - self._measured_s < STALE_S else None

    @property
    def replica_s(self) -> float:
        """Seconds from the placement on a node until `kill`, or until now. This is what the replica costs."""
        if self._placed_s is None:
            return 0.0
        return (self._killed_s or time.monotonic()) - self._placed_s

    def kill(self) -> None:
        """Kill the actor. Returns at once. A process that hangs or is stopped (SIGSTOP) ends too: Ray 2.60's raylet
        sends SIGKILL if it has not ended within 5 s."""
        self._killed_s = self._killed_s or time.monotonic()
        ray.kill(self._actor, no_restart=True)


def resources(pool: PoolConfig) -> dict[str, float]:
    """What a replica of this pool takes of its node, as Ray names it. Empty if it takes nothing."""
    return {name: amount for name, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount}


def needs(pool: PoolConfig) -> str:
    """What a node must have to take a replica of this pool, in words."""
    parts = [counted(pool.cpus, "CPU"), *([counted(pool.gpus, "GPU")] if pool.gpus else [])]
    return ", ".join(parts + ([f"node label steer-pool={pool.label}"] if pool.label else []))


def counted(amount: float, what: str) -> str:
    """`1 CPU`, `0.5 CPUs`."""
    return f"{amount:g} {what}{'s' * (amount != 1)}"


def _node(_actor) -> str:
    return ray.get_runtime_context().get_node_id()
