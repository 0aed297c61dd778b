"""One replica of a pool as the router sees it: a Ray actor, what it holds, and how many rows are out at it.

A replica is never restarted in place: a dead one is replaced by a new incarnation with a number of its own, so that
nothing believes the new process still holds the old one's bodies.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator

import ray

from steer.config import ModelConfig, PoolConfig
from steer.work import EngineInfo, StepBatch, StepResults

_numbers = itertools.count()


class ReplicaDied(Exception):
    """The replica's process or node is gone, or it did not answer in time."""


class ModelUnusable(ReplicaDied):
    """The replica is there, but its model cannot be loaded: another replica could not either."""


class Replica:
    def __init__(self, name: str, actor, config: PoolConfig):
        self.number = next(_numbers)
        self.name = name
        self.in_flight = 0
        self.busy_s = 0.0
        self.drop: list[str] = []
        """Traces it may forget, told with its next call."""
        self._actor = actor
        self._config = config

    @classmethod
    def spawn(cls, name: str, replica_class: type, model: ModelConfig, pool: PoolConfig, measures) -> "Replica":
        """Ask Ray for the actor; returns at once. Raises nothing: a failure to place or load shows in `describe`."""
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

    async def describe(self) -> EngineInfo:
        """Wait until the engine is loaded; raises ReplicaDied with what stood in its way."""
        timeout_s = self._config.start_timeout_s
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._actor.describe.remote().future()), timeout_s)
        except TimeoutError:
            needs = f"{self._config.cpus:g} CPUs, {self._config.gpus:g} GPUs"
            if self._config.label:
                needs += f", node label steer-pool={self._config.label}"
            raise ReplicaDied(
                f"replica {self.name} was not ready after {timeout_s:g} s: is there a node with {needs}? "
                "Otherwise raise pools.*.start_timeout_s."
            ) from None
        except ray.exceptions.RayTaskError as error:
            raise ModelUnusable(str(error.cause)) from error
        except ray.exceptions.RayError as error:
            raise ReplicaDied(f"replica {self.name} did not start: {error}") from error

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

    def kill(self) -> None:
        ray.kill(self._actor, no_restart=True)
