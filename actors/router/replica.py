"""One replica of a pool as the router sees it: a Ray actor, what it holds, and how many rows are out at it.

A replica is never restarted in place: a dead one is replaced by a new incarnation with a number of its own, so that
nothing believes the new process still holds the old one's prefixes. It costs `replica_s` from the moment that it has its
place on a node until it is killed.
"""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator

import ray

from steer.config.run import ModelConfig, PoolConfig
from steer.messages import EngineInfo, StepBatch, StepResults

LAST = 0.3
"""Weight of the last call in a replica's `step_s`: one slow call moves it little, five in a row make it."""
STALE_S = 60.0
"""A replica that was once slow and has had no row for so long is tried again as if it were new."""
ASK_AGAIN_S = 1.0
"""Between questions to a process that Ray cannot reach and does not know to be dead."""

_numbers = itertools.count()


class ReplicaDied(Exception):
    """The replica's process or node is gone, or it did not answer in time."""


class ModelUnusable(ReplicaDied):
    """The replica is there, but its model cannot be loaded: another replica could not either."""


class NotPlaced(ReplicaDied):
    """No node had room for the replica in time."""


class Replica:
    def __init__(self, name: str, actor, config: PoolConfig):
        self.number = next(_numbers)
        self.name = name
        self.node: str | None = None
        """Ray's id of the node that it is placed on; None: it waits for a place."""
        self.in_flight = 0
        self.calls = 0
        """Calls whose stream is still open."""
        self.busy_s = 0.0
        self.drop: list[str] = []
        """Traces it may forget, told with its next call."""
        self.asked_s = time.monotonic()
        self._step_s, self._measured_s = 0.0, -math.inf
        self._placed_s: float | None = None
        self._killed_s: float | None = None
        self._actor = actor
        self._config = config

    @classmethod
    def spawn(cls, name: str, replica_class: type, model: ModelConfig, pool: PoolConfig, measures) -> "Replica":
        """Ask Ray for the actor; returns at once. Raises nothing: a failure to place or load shows in `load`."""
        selector = {"steer-pool": pool.label} if pool.label else None
        actor = (
            ray.remote(replica_class)
            .options(
                num_cpus=pool.cpus,
                num_gpus=pool.gpus,
                label_selector=selector,
                max_restarts=0,
                max_task_retries=0,  # a step is sampling: the router asks again, never Ray
            )
            .remote(name, model, pool, measures)
        )
        return cls(name, actor, pool)

    async def load(self, patient: bool) -> EngineInfo:
        """Wait until the engine is loaded; raises ReplicaDied with what stood in its way.

        `patient`: wait for a place on a node without end, and `start_timeout_s` from then on; else it counts from now.
        """
        timeout_s = self._config.start_timeout_s
        try:
            if patient:
                await self._place()
            async with asyncio.timeout(timeout_s):
                await self._place()
                return await self._describe()
        except TimeoutError:
            late = f"replica {self.name} was not ready after {timeout_s:g} s"
            remedy = "Otherwise raise pools.*.start_timeout_s."
            if self.node is None:
                raise NotPlaced(f"{late}: is there a node with {needs(self._config)}? {remedy}") from None
            raise ReplicaDied(f"{late}: its model was still loading. {remedy}") from None
        except ray.exceptions.RayTaskError as error:
            raise ModelUnusable(str(error.cause)) from error
        except ray.exceptions.RayError as error:
            raise ReplicaDied(f"replica {self.name} did not start: {error}") from error

    async def _place(self) -> None:
        if self.node is None:
            self.node = await self._answer(lambda: self._actor.__ray_call__.remote(_node))
            self._placed_s = time.monotonic()

    async def _describe(self) -> EngineInfo:
        return await self._answer(lambda: self._actor.describe.remote())

    async def _answer(self, ask):
        """Both questions may be asked again: one that was merely cut off says nothing of the process."""
        while True:
            try:
                return await asyncio.wrap_future(ask().future())
            except ray.exceptions.ActorUnavailableError:
                await asyncio.sleep(ASK_AGAIN_S)

    async def run(self, batch: StepBatch) -> AsyncIterator[StepResults]:
        """Answers as they come; raises ReplicaDied when the actor is gone, fails or is silent for `step_timeout_s`."""
        stream = self._actor.run.options(num_returns="streaming").remote(batch)
        try:
            while True:
                async with asyncio.timeout(self._config.step_timeout_s):
                    try:
                        results = await (await anext(stream))
                    except StopAsyncIteration:
                        return
                self.busy_s = max(self.busy_s, results.busy_s)
                yield results
        except TimeoutError:
            raise ReplicaDied(f"{self.name} did not answer within {self._config.step_timeout_s:g} s") from None
        except ray.exceptions.RayError as error:
            # The actor is gone, or the call failed in it: these rows have no answer and its state is unknown.
            failed = isinstance(error, ray.exceptions.RayTaskError)
            raise ReplicaDied(f"{self.name} died: {error.cause if failed else str(error).splitlines()[0]}") from error

    def measured(self, seconds: float, rows: int) -> None:
        """A call took so long from sending to its last answer, with so many rows out at this replica, its own among
        them. As long as they are fewer than it takes at once, their number is taken to make no difference: a replica
        with few rows is no slower for it."""
        step_s = seconds / max(rows / self._config.max_num_seqs, 1.0)
        self._step_s = step_s if self.step_s is None else self._step_s + LAST * (step_s - self._step_s)
        self._measured_s = time.monotonic()

    @property
    def step_s(self) -> float | None:
        """Seconds in which it answers as many rows as it takes at once; None: not measured lately."""
        return self._step_s if time.monotonic() - self._measured_s < STALE_S else None

    @property
    def replica_s(self) -> float:
        """Seconds from its place on a node to its death, or until now."""
        if self._placed_s is None:
            return 0.0
        return (self._killed_s or time.monotonic()) - self._placed_s

    def kill(self) -> None:
        """Returns at once. A process that hangs, or is stopped (SIGSTOP), goes too: Ray 2.60's raylet sends it SIGKILL
        when it has not left by itself within 5 s."""
        self._killed_s = self._killed_s or time.monotonic()
        ray.kill(self._actor, no_restart=True)


def needs(pool: PoolConfig) -> str:
    """What a node must have for a replica of this pool."""
    text = f"{pool.cpus:g} CPUs, {pool.gpus:g} GPUs"
    return f"{text}, node label steer-pool={pool.label}" if pool.label else text


def _node(_actor) -> str:
    return ray.get_runtime_context().get_node_id()
