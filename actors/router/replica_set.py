"""The replicas of one model: brings them up to the wanted number, waits for nodes, replaces the dead, lets go.

Lives in the router's process; knows replicas, not rows. Invariants: a replica is starting, live (takes rows), leaving
(answers what it has and is then killed) or gone, and goes through these in that order; what is live and starting comes
to `wanted`, unless starts failed within the last `RETRY_S`.

A successor that finds no node, or whose node is lost while it starts, is waited for without end: nodes come back. A
model that cannot be loaded, or a process that dies `START_TRIES` times in a row on nodes that live, is given up; with
no other replica there the run fails with that reason.
"""

import asyncio
import time
from collections.abc import Callable

from actors.router.nodes import lost_nodes
from actors.router.replica import ModelUnusable, NotPlaced, Replica, ReplicaDied, needs
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import EngineInfo
from steer.traces import Role

START_TRIES = 3
"""Deaths in a row, while loading, after which a start is given up."""
RETRY_S = 60.0
"""After a start was given up while other replicas work: a broken card is not asked every second."""
PLACE_S = 5.0
"""A replica without a node after so long is said to wait for one: a process alone takes a second or two."""


class ReplicaSet:
    def __init__(
        self,
        role: Role,
        model: ModelConfig,
        pool: PoolConfig,
        measures: tuple[str, ...],
        replica_class: type,
        ready: Callable[[EngineInfo], None],
        fail: Callable[[Exception], None],
    ):
        """`ready` is told of every replica that is loaded; `fail` once, when none can be started any more."""
        self.live: dict[int, Replica] = {}
        self.leaving: dict[int, Replica] = {}
        self.wanted = 0
        self.replaced = 0
        """Replicas that died while they took rows."""
        self.start_s: float | None = None
        """From asking for the last replica that loaded until it had."""
        self._role, self._model, self._pool = role, model, pool
        self._measures, self._replica_class = measures, replica_class
        self._ready, self._fail = ready, fail
        self._starting: dict[int, Replica] = {}
        """By slot, the number in a replica's name."""
        self._tasks: dict[int, asyncio.Task] = {}
        self._held_until_s = 0.0
        self._gone_busy_s = 0.0
        self._gone_replica_s = 0.0

    # --- start and heal -------------------------------------------------------------------------------------------

    async def start(self, replicas: int) -> None:
        """Start so many; returns when all are loaded. Raises ReplicaDied after `start_timeout_s` without a node."""
        self.wanted = replicas
        await asyncio.gather(*(self._begin(slot, self._first(slot)) for slot in range(replicas)))

    def aim(self, wanted: int) -> None:
        """Have so many replicas live or starting, as soon as can be."""
        self.wanted = wanted
        have = len(self.live) + len(self._starting)
        if time.monotonic() >= self._held_until_s:
            for _ in range(wanted - have):
                slot = self._free_slot()
                self._begin(slot, self._later(slot))
        for _ in range(have - wanted):
            self._let_go()

    def bury(self, replica: Replica) -> None:
        """Forget a dead replica (once) and start its successor."""
        if self.leaving.pop(replica.number, None) is not None:
            self._part(replica)
        elif self.live.pop(replica.number, None) is not None:
            self.replaced += 1
            self._part(replica)
            self.aim(self.wanted)

    def leave(self, replica: Replica) -> None:
        """No new rows for it; it is killed when those that it has are answered."""
        self.leaving[replica.number] = self.live.pop(replica.number)
        self.settle(replica)

    def settle(self, replica: Replica) -> None:
        """To be called when a replica has ended a call."""
        if not replica.calls and self.leaving.pop(replica.number, None) is not None:
            self._part(replica)

    def drain(self, nodes: set[str]) -> None:
        """These nodes will go: their replicas leave now, and their successors start elsewhere at the same time."""
        for replica in [r for r in self.live.values() if r.node in nodes]:
            self.leave(replica)
        for slot in [slot for slot, r in self._starting.items() if r.node in nodes]:
            self._stop(slot)
        self.aim(self.wanted)

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for replica in (*self.live.values(), *self.leaving.values(), *self._starting.values()):
            self._part(replica)
        for replicas in (self.live, self.leaving, self._starting):
            replicas.clear()

    # --- what it costs, and what it lacks -------------------------------------------------------------------------

    @property
    def starting(self) -> int:
        return len(self._starting)

    @property
    def busy_s(self) -> float:
        """Engine seconds with work, over all replicas, those that are gone included."""
        return self._gone_busy_s + sum(r.busy_s for r in (*self.live.values(), *self.leaving.values()))

    @property
    def replica_s(self) -> float:
        """Seconds that replicas had a place on a node, loading included, over all, those that are gone included."""
        here = (*self.live.values(), *self.leaving.values(), *self._starting.values())
        return self._gone_replica_s + sum(r.replica_s for r in here)

    @property
    def waiting(self) -> str:
        """What is missing for replicas that find no node; "" if nothing is."""
        late_s = time.monotonic() - PLACE_S
        without = sum(r.node is None and r.asked_s < late_s for r in self._starting.values())
        return f"{without} of {self.wanted} replicas wait for a node with {needs(self._pool)}" if without else ""

    # --- one replica ----------------------------------------------------------------------------------------------

    def _begin(self, slot: int, starts) -> asyncio.Task:
        self._starting[slot] = self._spawn(slot)
        task = self._tasks[slot] = asyncio.get_running_loop().create_task(starts)
        task.add_done_callback(lambda done: self._tasks.pop(slot) if self._tasks.get(slot) is done else None)
        return task

    async def _first(self, slot: int) -> None:
        await self._bring_up(slot, patient=False)

    async def _later(self, slot: int) -> None:
        try:
            await self._bring_up(slot, patient=True)
        except ReplicaDied as error:
            self._held_until_s = time.monotonic() + RETRY_S
            if not self.live and not self._starting:
                self._fail(error)

    async def _bring_up(self, slot: int, patient: bool) -> None:
        deaths = 0
        while True:
            replica, before = self._starting[slot], await lost_nodes()
            try:
                info = await replica.load(patient)
                break
            except ReplicaDied as error:
                self._part(self._starting.pop(slot))
                lost = await lost_nodes() - before
                deaths += not (lost and replica.node in {None, *lost})
                if deaths == START_TRIES or isinstance(error, ModelUnusable | NotPlaced):
                    raise
            self._starting[slot] = self._spawn(slot)
        self.start_s = time.monotonic() - replica.asked_s
        self.live[replica.number] = self._starting.pop(slot)
        self._ready(info)

    def _spawn(self, slot: int) -> Replica:
        name = f"{self._role.label}-{slot}"
        return Replica.spawn(name, self._replica_class, self._model, self._pool, self._measures)

    def _free_slot(self) -> int:
        taken = {*self._starting, *(_slot(r) for r in (*self.live.values(), *self.leaving.values()))}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)

    def _let_go(self) -> None:
        """One fewer: best one that only starts, without a node if there is one; else that with the fewest rows."""
        if self._starting:
            self._stop(max(self._starting, key=lambda slot: (self._starting[slot].node is None, slot)))
        elif self.live:
            self.leave(min(self.live.values(), key=lambda r: r.in_flight))

    def _stop(self, slot: int) -> None:
        self._tasks.pop(slot).cancel()
        self._part(self._starting.pop(slot))

    def _part(self, replica: Replica) -> None:
        replica.kill()
        self._gone_busy_s += replica.busy_s
        self._gone_replica_s += replica.replica_s


def _slot(replica: Replica) -> int:
    return int(replica.name.rsplit("-", 1)[1])
