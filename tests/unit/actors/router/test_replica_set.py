"""How many replicas a set starts, on replicas that load or die as they are told. No cluster is needed."""

import asyncio
import itertools
import time

import pytest

from actors.router import replica_set
from actors.router.replica import Replica, ReplicaDied
from actors.router.replica_set import ReplicaSet
from steer.config.run import ModelConfig, PoolConfig
from steer.traces import Role

DIES, LOADS, FAILS = "dies", "loads", "fails"


class Told:
    """A replica of the router's side that does what it is told when it loads."""

    numbers = itertools.count()

    def __init__(self, name, what):
        self.name, self.what, self.number = name, what, next(self.numbers)
        self.node, self.calls, self.in_flight, self.busy_s, self.replica_s = "node", 0, 0, 0.0, 0.0
        self.asked_s, self.killed = time.monotonic(), False

    async def load(self, patient):
        if self.what == DIES:
            raise ReplicaDied("told so")
        if self.what == FAILS:
            raise OSError("told so")

    def kill(self):
        self.killed = True


@pytest.fixture
def told(monkeypatch):
    """(a set, the replicas that it has spawned, what it failed with): `told(LOADS, DIES, ...)` in the order of
    spawning, the last again and again."""

    def make(*orders):
        spawned, failures, orders = [], [], list(orders)

        def spawn(name, *_):
            spawned.append(Told(name, orders.pop(0) if len(orders) > 1 else orders[0]))
            return spawned[-1]

        monkeypatch.setattr(Replica, "spawn", spawn)
        model = ModelConfig(path="m")
        made = ReplicaSet(Role.SMALL, model, PoolConfig(), (), object, lambda info: None, failures.append)
        return made, spawned, failures

    return make


async def no_nodes():
    await asyncio.sleep(0)
    return set()


async def idle(made):
    while made._tasks:
        await asyncio.gather(*made._tasks.values(), return_exceptions=True)


def test_scaling_while_a_dead_replica_is_replaced_starts_no_second_one(told, monkeypatch):
    made, spawned, _ = told(DIES, LOADS)

    async def asked_meanwhile():
        made.scale_to(1)
        return set()

    monkeypatch.setattr(replica_set, "lost_nodes", asked_meanwhile)

    async def run():
        made.scale_to(1)
        await idle(made)

    asyncio.run(run())
    assert [(replica.what, replica.killed) for replica in spawned] == [(DIES, True), (LOADS, False)]
    assert list(made.live.values()) == spawned[1:] and made.starting == 0


def test_a_model_that_dies_again_and_again_fails_the_run_with_the_reason(told, monkeypatch):
    monkeypatch.setattr(replica_set, "lost_nodes", no_nodes)
    made, spawned, failures = told(DIES)

    async def run():
        made.scale_to(1)
        await idle(made)

    asyncio.run(run())
    assert len(spawned) == replica_set.START_TRIES and all(replica.killed for replica in spawned)
    assert [str(failure) for failure in failures] == ["told so"]


def test_a_start_that_fails_for_another_reason_fails_the_run_too(told, monkeypatch):
    monkeypatch.setattr(replica_set, "lost_nodes", no_nodes)
    made, _, failures = told(FAILS)

    async def run():
        made.scale_to(1)
        await idle(made)

    asyncio.run(run())
    assert [type(failure) for failure in failures] == [OSError]
