"""The replica set of one model: it starts replicas up to the wanted number, replaces dead ones and releases others.

Lives in the router's process and knows replicas, not rows. Invariants: a replica is first starting, then live (takes
rows), then leaving (answers the rows that it has and is killed), then gone. It may skip states, but never goes back.
Live and starting replicas add up to `wanted`, unless a start failed within the last `RETRY_S`.

After the first start the replica set waits for nodes without end, because nodes come back: this holds for a replica
that finds no node, and for one whose node is lost while it starts. A start is given up if the model cannot be loaded,
or if the process dies `START_TRIES` times on nodes that live. If no other replica is there, the run fails with that
reason.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from actors.router.nodes import lost_nodes
from actors.router.replica import ModelUnusable, NotPlaced, Replica, ReplicaDied, ReplicaState, needs
from steer.config.run import ModelConfig, PoolConfig
from steer.events import EventLog, What
from steer.messages import EngineInfo
from steer.traces import Role

START_TRIES = 3
"""Deaths while loading after which a start is given up."""
RETRY_S = 60.0
"""Seconds without a new start after one was given up, so that a broken card is not tried every second."""
SAY_S = 5.0
"""Seconds after which it is said what a replica that starts waits for. To start a process takes one or two."""


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
        leaves: Callable[[Replica], None] = lambda replica: None,
        prefix: str = "",
        events: EventLog | None = None,
    ):
        """`ready` is called for every replica that is loaded, `leaves` for every one that is to leave. `fail` is called
        when no replica can be started. `prefix`: what the replicas' names begin with. `events`: notes what happens."""
        self.live: dict[int, Replica] = {}
        """By number, as in `leaving`."""
        self.leaving: dict[int, Replica] = {}
        self.wanted = 0
        """How many replicas are to be live or starting."""
        self.replaced = 0
        """Replicas that died while they took rows."""
        self.start_s: float | None = None
        """Seconds from asking for a replica until it was loaded, of the last one that was. None: there was none yet."""
        self._role, self._model, self._pool, self._prefix = role, model, pool, prefix
        self._measures, self._replica_class = measures, replica_class
        self._ready, self._fail, self._leaves = ready, fail, leaves
        self._events = EventLog() if events is None else events
        self._starting: dict[int, Replica] = {}
        """By slot: the number in a replica's name, which a later replica may have again."""
        self._context = contextvars.copy_context()
        """In which replicas are started, whoever asks for them (as in `Pool`)."""
        self._tasks: dict[int, asyncio.Task] = {}
        """By slot: the task that starts the replica."""
        self._no_start_before_s = 0.0
        self._gone_busy_s = 0.0
        self._gone_replica_s = 0.0

    # --- start and heal -------------------------------------------------------------------------------------------

    async def start(self, replicas: int) -> None:
        """Start the first replicas. Returns when all are loaded. Raises ReplicaDied if one cannot be loaded, or finds
        no node within `start_timeout_s`."""
        self.wanted = replicas
        await asyncio.gather(*(self._begin(slot, self._first(slot)) for slot in range(replicas)))

    def scale_to(self, wanted: int) -> None:
        """Start or release replicas, so that `wanted` of them are live or starting."""
        if wanted > self.wanted:
            self._note(What.GROWN, reason=f"{wanted} replicas are wanted instead of {self.wanted}")
        self.wanted = wanted
        have = len(self.live) + len(self._starting)
        if time.monotonic() >= self._no_start_before_s:
            for _ in range(wanted - have):
                slot = self._free_slot()
                self._begin(slot, self._later(slot))
        for _ in range(have - wanted):
            self._release_one()

    def replace_dead(self, replica: Replica, death: str) -> None:
        """Drop a dead replica and start another, unless it was leaving. `death`: the reason. A second call for one
        replica does nothing."""
        if self.leaving.pop(replica.number, None) is not None:
            self._note(What.LEAVING_DIED, replica, death)
            self._kill(replica)
        elif self.live.pop(replica.number, None) is not None:
            self.replaced += 1
            self._note(What.DIED, replica, death)
            self._kill(replica)
            self.scale_to(self.wanted)

    def leave(self, replica: Replica, what: What, reason: str) -> None:
        """Give the replica no new rows, and kill it when it has answered those that it has."""
        self._note(what, replica, reason)
        self.leaving[replica.number] = self.live.pop(replica.number)
        self._leaves(replica)
        self.call_ended(replica)

    def call_ended(self, replica: Replica) -> None:
        """Kill the replica if it is leaving and has no open call. Call this whenever a call has ended."""
        if not replica.calls and self.leaving.pop(replica.number, None) is not None:
            self._kill(replica)

    def drain(self, nodes: set[str]) -> None:
        """Make the replicas on these nodes leave, because the nodes will, and start others elsewhere meanwhile."""
        for replica in [r for r in self.live.values() if r.node in nodes]:
            self.leave(replica, What.DRAINED, "its node will leave")
        for slot in [slot for slot, r in self._starting.items() if r.node in nodes]:
            self._note(What.DRAINED, self._starting[slot], "its node will leave, and its model is not loaded yet")
            self._cancel_start(slot)
        self.scale_to(self.wanted)

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for replica in (*self.live.values(), *self.leaving.values(), *self._starting.values()):
            self._kill(replica)
        for replicas in (self.live, self.leaving, self._starting):
            replicas.clear()

    # --- counts ---------------------------------------------------------------------------------------------------

    @property
    def starting(self) -> int:
        return len(self._starting)

    @property
    def busy_s(self) -> float:
        """Seconds in which engines had work, summed over all replicas, also those that are gone."""
        return self._gone_busy_s + sum(r.busy_s for r in (*self.live.values(), *self.leaving.values()))

    @property
    def replica_s(self) -> float:
        """Seconds on a node, loading included, summed over all replicas, also those that are gone."""
        here = (*self.live.values(), *self.leaving.values(), *self._starting.values())
        return self._gone_replica_s + sum(r.replica_s for r in here)

    @property
    def states(self) -> dict[str, int]:
        """Number of replicas in each state."""
        counts = {state.value: 0 for state in ReplicaState}
        for replica in self._starting.values():
            counts[replica.state] += 1
        return counts | {ReplicaState.LIVE.value: len(self.live), ReplicaState.LEAVING.value: len(self.leaving)}

    @property
    def waiting(self) -> str:
        """What replicas that start wait for; "" if there are none."""
        now_s = time.monotonic()
        late = [r for r in self._starting.values() if now_s - r.asked_s > SAY_S]
        return waits([(r.state, r.queued, now_s - r.since_s) for r in late], self.wanted, needs(self._pool))

    # --- one replica ----------------------------------------------------------------------------------------------

    def _begin(self, slot: int, start: Coroutine[Any, Any, None]) -> asyncio.Task:
        self._starting[slot] = self._context.run(self._spawn, slot)
        task = self._tasks[slot] = asyncio.get_running_loop().create_task(start, context=self._context)
        task.add_done_callback(lambda done: self._tasks.pop(slot) if self._tasks.get(slot) is done else None)
        return task

    async def _first(self, slot: int) -> None:
        await self._bring_up(slot, patient=False)

    async def _later(self, slot: int) -> None:
        try:
            await self._bring_up(slot, patient=True)
        except ReplicaDied as error:
            self._no_start_before_s = time.monotonic() + RETRY_S
            self._note(What.GIVEN_UP, reason=str(error))
            if not self.live and not self._starting:
                self._fail(error)
        except Exception as error:
            self._fail(error)  # nobody awaits this task

    async def _bring_up(self, slot: int, patient: bool) -> None:
        deaths = 0
        while True:
            replica, before = self._starting[slot], await lost_nodes()
            try:
                info = await replica.load(patient)
                break
            except ReplicaDied as error:
                replica.kill()
                # The slot stays taken while the nodes are asked: `scale_to` may be called meanwhile.
                lost = await lost_nodes() - before
                self._note(What.START_DIED, replica, str(error))
                self._kill(self._starting.pop(slot))
                deaths += not (lost and replica.node in {None, *lost})
                if deaths == START_TRIES or isinstance(error, ModelUnusable | NotPlaced):
                    raise
            self._starting[slot] = self._spawn(slot)
        self.start_s = time.monotonic() - replica.asked_s
        self.live[replica.number] = self._starting.pop(slot)
        self._note(What.LOADED, replica, f"{self.start_s:.0f} s after it was asked for")
        self._ready(info)

    def _spawn(self, slot: int) -> Replica:
        name = f"{self._prefix}{self._role.label}-{slot}"
        return Replica.spawn(name, self._replica_class, self._model, self._pool, self._measures)

    def _free_slot(self) -> int:
        taken = {*self._starting, *(_slot(r) for r in (*self.live.values(), *self.leaving.values()))}
        return next(slot for slot in range(len(taken) + 1) if slot not in taken)

    def _release_one(self) -> None:
        """Release a replica that is starting, preferably one without a node; if none is starting, the live one with the
        fewest rows."""
        if self._starting:
            slot = max(self._starting, key=lambda slot: (self._starting[slot].node is None, slot))
            self._note(What.RELEASED, self._starting[slot], "it is not needed, and its model is not loaded yet")
            self._cancel_start(slot)
        elif self.live:
            self.leave(min(self.live.values(), key=lambda r: r.in_flight), What.RELEASED, "it is not needed")

    def _cancel_start(self, slot: int) -> None:
        self._tasks.pop(slot).cancel()
        self._kill(self._starting.pop(slot))

    def _note(self, what: What, replica: Replica | None = None, reason: str = "") -> None:
        where = (replica.name, replica.node) if replica else ("", None)
        self._events.note(what, self._role.label, *where, reason)

    def _kill(self, replica: Replica) -> None:
        replica.kill()
        self._gone_busy_s += replica.busy_s
        self._gone_replica_s += replica.replica_s


def waits(starting: Sequence[tuple[ReplicaState, bool, float]], wanted: int, needs: str) -> str:
    """What the replicas that start wait for, as `1 of 2 replicas loads its model (35 s)`; "" if there are none.

    `starting`: of each its state, whether it waits for a node, and the seconds since the state began; the longest are
    said. `needs`: what a node must have.
    """
    kinds: dict[tuple[str, str], list[float]] = {}
    for state, queued, seconds in starting:
        kinds.setdefault(_waits(state, queued, needs), []).append(seconds)
    said = [
        f"{len(each)} of {wanted} replicas {one if len(each) == 1 else many} ({max(each):.0f} s)"
        for (one, many), each in kinds.items()
    ]
    return ", ".join(said)


def _waits(state: ReplicaState, queued: bool, needs: str) -> tuple[str, str]:
    """What one replica does, and what several do."""
    if state == ReplicaState.WAITING:
        if queued:
            return f"waits for a node with {needs}", f"wait for a node with {needs}"
        return "waits for its packages and process", "wait for their packages and processes"
    if state == ReplicaState.DOWNLOADING:
        return "downloads its weights", "download their weights"
    return "loads its model", "load their model"


def _slot(replica: Replica) -> int:
    return int(replica.name.rsplit("-", 1)[1])
