"""The replicas of one model: start, place, dispatch with credits and affinity, heal.

Lives in the router's process. Invariants: a submitted row comes back exactly once, answered or lost; no replica has
more than `max_rows` rows out; a row prefers the replica that holds its trace's body.

Rows that were out at a replica when it died are tried apart, half by half, on a replica that does nothing else: after a
lost node both halves simply answer; a trace that kills its replica is narrowed down to itself, and only it is lost.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from actors.replica import ModelUnusable, Replica, ReplicaDied
from steer.config import ModelConfig, PoolConfig
from steer.group import Group
from steer.rows import Row
from steer.traces import Seat
from steer.work import EngineInfo, Sampling, StepBatch, StepResults

MIGRATE_ROWS = 8
"""A trace leaves its home when that has this many rows (and a quarter) more than an equal share: below, recomputing
the body's prefix elsewhere costs more than the wait."""
START_TRIES = 3
"""Consecutive failures to start a replica after which the pool gives it up."""


class Answer(NamedTuple):
    """What comes back to a group: answered rows with their results, or lost rows with the reason."""

    rows: list[Row]
    results: StepResults | None
    reason: str = ""


class Load(NamedTuple):
    """Rows of one group that wait for a replica."""

    group: Group
    rows: list[Row]
    sampling: Sampling
    flush_s: float | None


class Pool:
    def __init__(
        self,
        seat: Seat,
        config: ModelConfig,
        pool: PoolConfig,
        measures: tuple[str, ...],
        replica_class: type,
        deliver: Callable[[Group, Answer], None],
        fail: Callable[[Exception], None],
    ):
        """`deliver` takes every answer; `fail` is told once when no replica can be started any more."""
        self.seat, self.config, self.pool_config, self.measures = seat, config, pool, measures
        self.info: EngineInfo | None = None
        self.outstanding_s = 0.0
        """Seconds in which at least one row was submitted and not yet answered."""
        self.replaced = 0
        self._replica_class, self._deliver, self._fail = replica_class, deliver, fail
        self._replicas: dict[int, Replica] = {}
        self._waiting: deque[Load] = deque()
        self._suspects: deque[Load] = deque()
        self._trial: Replica | None = None
        """The replica kept free for, or running, a suspect load."""
        self._tasks: set[asyncio.Task] = set()
        self._outstanding = 0
        self._since = 0.0
        self._dead_busy_s = 0.0

    # --- start and heal -------------------------------------------------------------------------------------------

    async def start(self) -> EngineInfo:
        """Start every replica; returns when all are loaded."""
        await asyncio.gather(*(self._start(i) for i in range(self.pool_config.replicas)))
        return self.info

    async def _start(self, slot: int) -> None:
        for attempt in range(1, START_TRIES + 1):
            replica = Replica.spawn(
                f"{self.seat.label}-{slot}", self._replica_class, self.config, self.pool_config, self.measures
            )
            try:
                info = await replica.describe()
                break
            except ReplicaDied as error:
                replica.kill()
                if attempt == START_TRIES or isinstance(error, ModelUnusable):
                    raise
        self.info = self.info or info
        self._replicas[replica.number] = replica
        self._pump()

    async def _replace(self, slot: int) -> None:
        try:
            await self._start(slot)
        except ReplicaDied as error:
            if not self._replicas:
                self._fail(error)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for replica in self._replicas.values():
            replica.kill()
        self._replicas.clear()

    # --- dispatch -------------------------------------------------------------------------------------------------

    def submit(self, load: Load) -> None:
        """Send the rows out, as far as credits go; the rest follows when answers free some."""
        if not self._outstanding:
            self._since = time.monotonic()
        self._outstanding += len(load.rows)
        self._suspects.extend(load._replace(rows=[row]) for row in load.rows if row.suspect)
        rows = [row for row in load.rows if not row.suspect]
        if rows:
            self._waiting.append(load._replace(rows=rows))
        self._pump()

    def forget(self, group: Group, traces: list[int]) -> None:
        """Tell the homes of finished traces, with their next call, to free the bodies."""
        home_L = group.home_ML[self.seat]
        for trace in traces:
            replica = self._replicas.get(home_L[trace])
            if replica is not None:
                replica.drop.append(group.key_L[trace])

    def _pump(self) -> None:
        self._try_suspect()
        while self._waiting:
            free = {
                r.number: self.pool_config.max_rows - r.in_flight
                for r in self._replicas.values()
                if r is not self._trial
            }
            if sum(free.values()) <= 0:
                return
            load = self._waiting.popleft()
            shares, rest = self._assign(load, free)
            if rest:
                self._waiting.appendleft(load._replace(rows=rest))
            for number, rows in shares.items():
                self._send(self._replicas[number], load._replace(rows=rows))

    def _try_suspect(self) -> None:
        if not self._suspects or not self._replicas:
            return
        if self._trial is None:
            self._trial = min(self._replicas.values(), key=lambda r: r.in_flight)
        if not self._trial.in_flight:
            load = self._suspects.popleft()
            self._send(self._trial, load._replace(rows=load.rows[: self.pool_config.max_rows]))
            if len(load.rows) > self.pool_config.max_rows:
                self._suspects.appendleft(load._replace(rows=load.rows[self.pool_config.max_rows :]))

    def _send(self, replica: Replica, load: Load) -> None:
        replica.in_flight += len(load.rows)
        self._spawn(self._call(replica, load))

    def _spawn(self, coroutine) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _assign(self, load: Load, free: dict[int, int]) -> tuple[dict[int, list[Row]], list[Row]]:
        """Rows by replica number, and those for which no credit is left."""
        if len(free) == 1:
            (number, credit), *_ = free.items()
            return {number: load.rows[:credit]}, load.rows[credit:]
        shares: dict[int, list[Row]] = {number: [] for number in free}
        load_of = {number: self._replicas[number].in_flight for number in free}
        equal = (sum(load_of.values()) + len(load.rows)) / len(free)
        limit = equal * 1.25 + MIGRATE_ROWS
        home_L = load.group.home_ML[self.seat]
        homeless, rest = [], []
        for row in load.rows:
            home = home_L[row.trace]
            if free.get(home, 0) > 0 and load_of[home] < limit:
                shares[home].append(row)
                free[home] -= 1
                load_of[home] += 1
            else:
                homeless.append(row)
        for row in homeless:
            open_to = [number for number in free if free[number] > 0]
            if not open_to:
                rest.append(row)
                continue
            number = min(open_to, key=load_of.__getitem__)
            shares[number].append(row)
            free[number] -= 1
            load_of[number] += 1
        return {number: rows for number, rows in shares.items() if rows}, rest

    def _batch(self, replica: Replica, load: Load) -> StepBatch:
        group, tokenizer = load.group, self.info.tokenizer
        home_L, held_L = group.home_ML[self.seat], group.held_ML[self.seat]
        held_B, new_B = [], []
        for row in load.rows:
            trace = row.trace
            if home_L[trace] != replica.number:
                home_L[trace], held_L[trace] = replica.number, 0
            held = held_L[trace]
            held_B.append(held)
            body = group.body_L[trace]
            if held == len(body):
                new_B.append(())
            else:
                new_B.append(
                    tuple(
                        p.ids if i + held == 0 or p.tokenizer == tokenizer else p.text
                        for i, p in enumerate(body[held:])
                    )
                )
        drop, replica.drop = tuple(replica.drop), []
        return StepBatch(
            sampling=load.sampling,
            key_B=[group.key_L[row.trace] for row in load.rows],
            op_B=[row.op for row in load.rows],
            seed_B=[row.seed for row in load.rows],
            max_tokens_B=[row.max_tokens for row in load.rows],
            held_B=held_B,
            new_B=new_B,
            drop=drop,
            flush_s=load.flush_s,
        )

    async def _call(self, replica: Replica, load: Load) -> None:
        rows, open_rows = load.rows, set(range(len(load.rows)))
        death = None
        try:
            async for results in replica.run(self._batch(replica, load)):
                open_rows.difference_update(results.row_R)
                replica.in_flight -= len(results.row_R)
                self._settle(len(results.row_R))
                self._deliver(load.group, Answer([rows[i] for i in results.row_R], results))
                self._pump()
        except ReplicaDied as error:
            death = str(error)
            self._bury(replica)
        replica.in_flight -= len(open_rows)
        if self._trial is replica and not replica.in_flight:
            self._trial = None
        left = [rows[i] for i in sorted(open_rows)]
        if death and len(left) > 1:
            half = len(left) // 2
            self._suspects.extend((load._replace(rows=left[:half]), load._replace(rows=left[half:])))
        elif left:
            self._settle(len(left))
            self._deliver(load.group, Answer(left, None, death or f"{replica.name} did not answer this row"))
        self._pump()

    def _bury(self, replica: Replica) -> None:
        """Forget a dead replica (once) and start its successor."""
        if self._replicas.pop(replica.number, None) is None:
            return
        replica.kill()
        self.replaced += 1
        self._dead_busy_s += replica.busy_s
        self._spawn(self._replace(int(replica.name.rsplit("-", 1)[1])))

    def _settle(self, rows: int) -> None:
        self._outstanding -= rows
        if not self._outstanding:
            self.outstanding_s += time.monotonic() - self._since

    @property
    def busy_s(self) -> float:
        """Engine seconds with work, over all replicas, the dead ones included."""
        return self._dead_busy_s + sum(r.busy_s for r in self._replicas.values())
