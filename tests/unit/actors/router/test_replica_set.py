"""How many replicas a set starts, on replicas that load or die as they are told. No cluster is needed."""

import asyncio
import contextvars
import itertools
import time

import pytest

from actors.router import replica_set
from actors.router.replica import Replica, ReplicaDied, ReplicaState
from actors.router.replica_set import ReplicaSet
from steer.config.run import ModelConfig, PoolConfig
from steer.traces import Role

DIES, LOADS, FAILS = "dies", "loads", "fails"
ASKED_BY = contextvars.ContextVar("asked_by", default="the set")


class Told:
    """A replica of the router's side that does what it is told when it loads."""

    numbers = itertools.count()

    def __init__(self, name, what):
        self.name, self.what, self.number = name, what, next(self.numbers)
        self.node, self.calls, self.in_flight, self.busy_s, self.replica_s = "node", 0, 0, 0.0, 0.0
        self.asked_s, self.killed, self.asked_by = time.monotonic(), False, [ASKED_BY.get()]

    async def load(self, patient):
        self.asked_by.append(ASKED_BY.get())
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


def test_a_replica_belongs_to_no_task_that_has_the_set_start_it(told, monkeypatch):
    """Ray cancels what was called in a task's context with that task."""
    monkeypatch.setattr(replica_set, "lost_nodes", no_nodes)
    made, spawned, _ = told(LOADS)

    async def run():
        ASKED_BY.set("a group's route")
        made.scale_to(1)
        await idle(made)
        made.replace_dead(spawned[0], "told so")
        await idle(made)

    asyncio.run(run())
    assert [replica.asked_by for replica in spawned] == [["the set", "the set"]] * 2


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


def test_replicas_that_start_are_told_apart_by_what_they_wait_for():
    starting = [
        (ReplicaState.LOADING, False, 12.0),
        (ReplicaState.LOADING, False, 35.4),
        (ReplicaState.WAITING, True, 8.0),
        (ReplicaState.WAITING, False, 20.0),
        (ReplicaState.DOWNLOADING, False, 60.0),
    ]
    said = replica_set.waits(starting, 6, "4 CPUs, 1 GPU")
    assert said.split(", ", 1)[0] == "2 of 6 replicas load their model (35 s)"
    assert "1 of 6 replicas waits for a node with 4 CPUs, 1 GPU (8 s)" in said
    assert "1 of 6 replicas waits for its packages and process (20 s)" in said
    assert "1 of 6 replicas downloads its weights (60 s)" in said
    assert replica_set.waits([], 6, "") == ""


def test_what_happens_to_replicas_is_noted_and_agrees_with_the_counts(told, monkeypatch):
    monkeypatch.setattr(replica_set, "lost_nodes", no_nodes)
    made, spawned, _ = told(DIES, LOADS)

    async def run():
        made.scale_to(1)
        await idle(made)
        made.replace_dead(spawned[1], "small-0 died: told so")
        made.replace_dead(spawned[1], "once more")
        await idle(made)
        made.drain({"node"})
        await idle(made)
        made.scale_to(0)

    asyncio.run(run())
    noted = [event.what for event in made._events.since(0)]
    assert noted == ["grown", "start_died", "loaded", "died", "loaded", "drained", "loaded", "released"]
    assert made.replaced == noted.count("died") == 1
    died = made._events.since(3)[0]
    assert (died.replica, died.node, died.reason) == ("small-0", "node", "told so")
