"""What of a replica's start `start_timeout_s` bounds: not packages, not downloads. The actor is a stand-in; its answers
come when they are told to."""

import asyncio
from concurrent.futures import Future

import pytest

from actors.router import replica as replicas
from actors.router.replica import NotPlaced, Replica, ReplicaDied, ReplicaState
from steer.config.run import PoolConfig

TIMEOUT_S = 0.1
LATE_S = 3 * TIMEOUT_S


class Method:
    def __init__(self, seconds, value=None):
        self._seconds, self._value = seconds, value

    def remote(self, *_):
        return self

    def future(self):
        future = Future()
        asyncio.get_running_loop().call_later(self._seconds, future.set_result, self._value)
        return future


class Actor:
    """`placed_s`, `download_s`, `load_s`: how long each part of its start takes."""

    def __init__(self, placed_s=0.0, download_s=0.0, load_s=0.0):
        self.__ray_call__ = Method(placed_s, "node")
        self.download, self.describe = Method(download_s), Method(load_s, "info")


def load(monkeypatch, patient=False, queued=True, **parts):
    async def waits_for_node(*_):
        return queued

    monkeypatch.setattr(replicas, "waits_for_node", waits_for_node)
    replica = Replica("small-0", Actor(**parts), PoolConfig(start_timeout_s=TIMEOUT_S, label="small"), downloads=True)
    return replica, lambda: asyncio.run(replica.load(patient))


def test_packages_and_downloads_may_take_longer_than_a_load(monkeypatch):
    replica, run = load(monkeypatch, queued=False, placed_s=LATE_S, download_s=LATE_S)
    assert run() == "info"
    assert replica.node == "node" and replica.state == ReplicaState.LOADING


def test_a_first_start_without_a_node_is_given_up_and_says_what_it_needs(monkeypatch):
    replica, run = load(monkeypatch, placed_s=LATE_S)
    with pytest.raises(NotPlaced, match="is there a node with 1 CPU, node label steer-pool=small"):
        run()
    assert replica.state == ReplicaState.WAITING and replica.queued


def test_a_later_start_waits_for_a_node_without_end(monkeypatch):
    assert load(monkeypatch, patient=True, placed_s=LATE_S)[1]() == "info"


@pytest.mark.parametrize("patient", [False, True])
def test_a_model_that_loads_for_too_long_is_given_up(monkeypatch, patient):
    with pytest.raises(ReplicaDied, match="its model was still loading"):
        load(monkeypatch, patient=patient, load_s=LATE_S)[1]()
