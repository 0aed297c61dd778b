"""The rows of one model: dispatch with credits and affinity, apart if they killed a replica, and what scales the replica_set.

Lives in the router's process. Invariants: a submitted row comes back exactly once, answered or lost; no replica has
more than `max_rows` rows out; a row prefers the replica that holds its trace's prefix; one that leaves gets no new row.

Rows that were out at a replica when it died are tried apart, half by half, on a replica that does nothing else: after a
lost node both halves simply answer; a trace that kills its replica is narrowed down to itself, and only it is lost.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from actors.router.autoscaling import Autoscaler, Demand
from actors.router.balancing import balanced
from actors.router.held_prefixes import HeldPrefixes
from actors.router.replica import Replica, ReplicaDied
from actors.router.replica_set import ReplicaSet
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import WRITING, EngineInfo, Sampling, StepBatch, StepResults
from steer.routing.group import Group
from steer.routing.rows import Row
from steer.traces import Finish, Role

TICK_S = 1.0
"""Between looks at how many replicas are needed; one is also taken when rows come in."""


class Reply(NamedTuple):
    """What comes back to a group: answered rows with their results, or lost rows with the reason."""

    rows: list[Row]
    results: StepResults | None
    reason: str = ""


class WaitingRows(NamedTuple):
    """Rows of one group that wait for a replica."""

    group: Group
    rows: list[Row]
    sampling: Sampling
    flush_s: float | None


class Pool:
    def __init__(
        self,
        role: Role,
        config: ModelConfig,
        pool: PoolConfig,
        measures: tuple[str, ...],
        replica_class: type,
        deliver: Callable[[Group, Reply], None],
        fail: Callable[[Exception], None],
        left: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0),
        learn: Callable[[Role, EngineInfo], None] = lambda role, info: None,
    ):
        """`deliver` takes every answer; `fail` is told once when no replica can be started any more; `left` says how
        many traces are live, queued and done; `learn` is told what was loaded."""
        self.role, self.config, self.pool_config = role, config, pool
        self.info: EngineInfo | None = None
        """Of the first replica that was loaded; None: there was none yet."""
        self.outstanding_s = 0.0
        """Seconds in which at least one row was submitted and not yet answered."""
        self.replica_set = ReplicaSet(role, config, pool, measures, replica_class, self._loaded, fail)
        self._autoscaler = None if pool.max_replicas is None else Autoscaler(pool.least, pool.most, pool.max_num_seqs)
        self._deliver, self._left, self._learn = deliver, left, learn
        self._prefixes = HeldPrefixes()
        self._waiting: deque[WaitingRows] = deque()
        self._suspects: deque[WaitingRows] = deque()
        self._trial: Replica | None = None
        """The replica kept free for, or running, a suspect load."""
        self._tasks: set[asyncio.Task] = set()
        self._outstanding = 0
        self._submitted = 0
        self._step_s: float | None = None
        self._since = 0.0

    # --- replicas -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the replicas that the pool begins with; returns when all are loaded."""
        await self.replica_set.start(self.pool_config.least)
        self._spawn(self._tend())

    @property
    def parameters(self) -> float:
        """N for the FLOPs; of a model that was never loaded, what its entry says: it has written no token."""
        return self.info.parameters if self.info else self.config.parameters or 0.0

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.replica_set.close()

    def _loaded(self, info: EngineInfo) -> None:
        if self.info is None:
            self.info = info
            self._learn(self.role, info)
        self._pump()

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._scale()

    def _scale(self) -> None:
        self.replica_set.aim(
            self.replica_set.wanted if self._autoscaler is None else self._autoscaler.wanted(self._demand())
        )

    def _demand(self) -> Demand:
        live, queued, done = self._left()
        replicas = self.replica_set.live.values()
        measured = [r.step_s for r in replicas if r.step_s is not None]
        if measured:
            self._step_s = sum(measured) / len(measured)
        # Half of a live trace's rows are behind it, on average.
        to_come = (queued + live / 2) * self._submitted / max(live + done, 1)
        here = len(replicas) + self.replica_set.starting
        return Demand(
            time.monotonic(), self._outstanding, live + queued, to_come, here, self._step_s, self.replica_set.start_s
        )

    # --- dispatch -------------------------------------------------------------------------------------------------

    def submit(self, load: WaitingRows) -> None:
        """Send the rows out, as far as credits go; the rest follows when answers free some."""
        if not self._outstanding:
            self._since = time.monotonic()
        self._outstanding += len(load.rows)
        self._submitted += len(load.rows)
        self._suspects.extend(load._replace(rows=[row]) for row in load.rows if row.suspect)
        rows = [row for row in load.rows if not row.suspect]
        if rows:
            self._waiting.append(load._replace(rows=rows))
        self._scale()
        self._pump()

    def forget(self, group: Group, traces: list[int]) -> None:
        """Tell the homes of finished traces, with their next call, to free the prefixes."""
        for trace in traces:
            replica = self.replica_set.live.get(self._prefixes.forget(group.key_L[trace]))
            if replica is not None:
                replica.drop.append(group.key_L[trace])

    def _pump(self) -> None:
        self._try_suspect()
        while self._waiting:
            live = self.replica_set.live
            free = {r.number: self.pool_config.max_rows - r.in_flight for r in live.values() if r is not self._trial}
            if sum(free.values()) <= 0:
                return
            load = self._waiting.popleft()
            shares, rest = self._assign(load, free)
            if rest:
                self._waiting.appendleft(load._replace(rows=rest))
            for number, rows in shares.items():
                self._send(live[number], load._replace(rows=rows))

    def _try_suspect(self) -> None:
        live = self.replica_set.live
        if not self._suspects or not live:
            return
        if self._trial is None or self._trial.number not in live:
            self._trial = min(live.values(), key=lambda r: r.in_flight)
        if not self._trial.in_flight:
            load = self._suspects.popleft()
            self._send(self._trial, load._replace(rows=load.rows[: self.pool_config.max_rows]))
            if len(load.rows) > self.pool_config.max_rows:
                self._suspects.appendleft(load._replace(rows=load.rows[self.pool_config.max_rows :]))

    def _send(self, replica: Replica, load: WaitingRows) -> None:
        replica.in_flight += len(load.rows)
        replica.calls += 1
        self._spawn(self._call(replica, load))

    def _spawn(self, coroutine) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _assign(self, load: WaitingRows, free: dict[int, int]) -> tuple[dict[int, list[Row]], list[Row]]:
        """Rows by replica number, and those for which no credit is left."""
        if len(free) == 1:
            (number, credit), *_ = free.items()
            return {number: load.rows[:credit]}, load.rows[credit:]
        key_L, live = load.group.key_L, self.replica_set.live
        out = {number: live[number].in_flight for number in free}
        step_s = {number: live[number].step_s for number in free}
        shares, rest = balanced([self._prefixes.home(key_L[row.trace]) for row in load.rows], free, out, step_s)
        return {n: [load.rows[i] for i in mine] for n, mine in shares.items()}, [load.rows[i] for i in rest]

    def _batch(self, replica: Replica, load: WaitingRows) -> StepBatch:
        group, tokenizer = load.group, self.info.tokenizer
        held_B, new_B = [], []
        for row in load.rows:
            prefix = group.prefix_L[row.trace]
            held = self._prefixes.send(group.key_L[row.trace], replica.number, prefix)
            held_B.append(held)
            new_B.append(
                tuple(
                    p.ids if i == 0 or p.tokenizer == tokenizer else p.text
                    for i, p in enumerate(prefix[held:], start=held)
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

    async def _call(self, replica: Replica, load: WaitingRows) -> None:
        rows, open_rows = load.rows, set(range(len(load.rows)))
        sent_s, out, death = time.monotonic(), replica.in_flight, None
        try:
            async for results in replica.run(self._batch(replica, load)):
                open_rows.difference_update(results.row_R)
                replica.in_flight -= len(results.row_R)
                self._settle(len(results.row_R))
                answered = [rows[i] for i in results.row_R]
                self._note_prefixes(load.group, answered, results)
                self._deliver(load.group, Reply(answered, results))
                self._pump()
            replica.measured(time.monotonic() - sent_s, out)
        except ReplicaDied as error:
            death = str(error)
            self.replica_set.bury(replica)
        replica.calls -= 1
        replica.in_flight -= len(open_rows)
        if self._trial is replica and not replica.in_flight:
            self._trial = None
        self.replica_set.settle(replica)
        left = [rows[i] for i in sorted(open_rows)]
        if death and len(left) > 1:
            half = len(left) // 2
            self._suspects.extend((load._replace(rows=left[:half]), load._replace(rows=left[half:])))
        elif left:
            self._settle(len(left))
            self._deliver(load.group, Reply(left, None, death or f"{replica.name} did not answer this row"))
        self._pump()

    def _note_prefixes(self, group: Group, rows: list[Row], results: StepResults) -> None:
        """What the replica now holds of these rows' traces."""
        for i, (row, finish) in enumerate(zip(rows, results.finish_R, strict=True)):
            if finish == Finish.MISSING:
                self._prefixes.missing(group.key_L[row.trace])
            elif finish != Finish.ERROR and row.op in WRITING:
                further = (step.ids for step in results.more_R.get(i, ()))
                self._prefixes.written(group.key_L[row.trace], (results.ids_R[i], *further))

    def _settle(self, rows: int) -> None:
        self._outstanding -= rows
        if not self._outstanding:
            self.outstanding_s += time.monotonic() - self._since
