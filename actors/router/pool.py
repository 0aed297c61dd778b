"""The pool of one model: it dispatches rows to the replica set and asks for the number of replicas that they need.

Lives in the router's process. Invariants: a submitted row comes back exactly once, answered or lost. No replica has
more than `max_rows` rows out. A row prefers the replica that holds its trace's prefix. A replica that is leaving gets
no new row.

Rows that were out at a replica when it died are suspects. They are tried in two halves, each on a replica that does
nothing else. After a lost node both halves are simply answered. If a trace kills its replica, the halving goes on until
that trace is alone, and only its row is lost. A row that writes on has answered steps by then, so its group takes it
back and asks for the next step alone, as a suspect of the same half. So it does with a pass that is answered in parts,
and asks for the rest of the pass.

Each replica has one stream of answers, whatever the number of calls.
"""

import asyncio
import contextvars
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from actors.router.autoscaling import Autoscaler, Demand
from actors.router.balancing import balanced
from actors.router.held_prefixes import HeldPrefixes
from actors.router.replica import OpenCall, Replica, ReplicaDied
from actors.router.replica_set import ReplicaSet
from steer.config.run import ModelConfig, PoolConfig
from steer.events import EventLog
from steer.messages import WRITING, EngineInfo, Op, Sampling, StepBatch, StepResults
from steer.routing.group import Group
from steer.routing.rows import ALONE, Row
from steer.traces import Finish, Role

TICK_S = 1.0
"""Seconds between two looks at how many replicas are needed. The pool also looks when rows come in."""


class Reply(NamedTuple):
    """What a pool returns to a group: answered rows with their results, or lost rows with the reason."""

    rows: list[Row]
    results: StepResults | None
    reason: str = ""


class WaitingRows(NamedTuple):
    """Rows of one group that are to be sent to a replica."""

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
        prefix: str = "",
        events: EventLog | None = None,
    ):
        """`deliver` takes every reply. `fail` is called when no replica can be started. `left` returns how many traces
        are live, queued and done. `learn` is called once a model is loaded for the first time. `prefix`: what the
        replicas' names begin with. `events`: notes what happens to the replicas."""
        self.role, self.config, self.pool_config = role, config, pool
        self.info: EngineInfo | None = None
        """What the first loaded replica said of itself. None: there was none yet."""
        self.outstanding_s = 0.0
        """Seconds in which at least one row was outstanding: submitted and not yet answered or lost."""
        self._fail = fail
        told = (self._loaded, fail, self._leaves)
        self.replica_set = ReplicaSet(role, config, pool, measures, replica_class, *told, prefix, events)
        self._autoscaler = None if pool.max_replicas is None else Autoscaler(pool.least, pool.most, pool.max_num_seqs)
        self._deliver, self._left, self._learn = deliver, left, learn
        self._prefixes = HeldPrefixes()
        self._waiting: deque[WaitingRows] = deque()
        self._suspects: deque[WaitingRows] = deque()
        self._trial: Replica | None = None
        """The replica that runs suspects, or is kept free for them."""
        self._tasks: set[asyncio.Task] = set()
        # Ray counts an actor call to the task in whose context it is made, and cancels it with that task. The end of a
        # group's `route` must not take with it the calls that all groups share: it would look like a replica's death.
        self._context = contextvars.copy_context()
        self.messages = 0
        """Messages that came from replicas."""
        self._calls = itertools.count()
        """Numbers of calls."""
        self._halves = itertools.count(1)
        """Numbers of suspects that stay together."""
        self._heard: set[int] = set()
        """Numbers of the replicas whose answers are listened to."""
        self._writing: dict[tuple[str, int], tuple[Replica, int, int]] = {}
        """Of rows that write on, by key and seed: the replica, the call and the position there."""
        self._cut: set[tuple[str, int]] = set()
        """Those of them that were told to stop."""
        self._outstanding = 0
        """Rows that are submitted and not yet answered or lost."""
        self._submitted = 0
        """Rows submitted so far."""
        self._step_s: float | None = None
        """Mean `step_s` of the replicas, as it was last measured."""
        self._since_s = 0.0
        """When `_outstanding` last rose from 0."""

    # --- replicas -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the replicas that the pool begins with. Returns when all are loaded. Raises ReplicaDied."""
        await self.replica_set.start(self.pool_config.least)
        self._spawn(self._keep_scaling())

    @property
    def parameters(self) -> float:
        """Parameter count of the model, for the FLOPs. If it was never loaded it has written no token; then this is
        what its configuration says, or 0."""
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

    async def _keep_scaling(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._scale()

    def _scale(self) -> None:
        wanted = self.replica_set.wanted if self._autoscaler is None else self._autoscaler.wanted(self._demand())
        self.replica_set.scale_to(wanted)

    def _demand(self) -> Demand:
        live, queued, done = self._left()
        replicas = self.replica_set.live.values()
        measured = [r.step_s for r in replicas if r.step_s is not None]
        if measured:
            self._step_s = sum(measured) / len(measured)
        # On average, half of a live trace's rows are done.
        to_come = (queued + live / 2) * self._submitted / max(live + done, 1)
        return Demand(
            at_s=time.monotonic(),
            rows=self._outstanding,
            traces=live + queued,
            to_come=to_come,
            replicas=len(replicas) + self.replica_set.starting,
            step_s=self._step_s,
            start_s=self.replica_set.start_s,
        )

    # --- dispatch -------------------------------------------------------------------------------------------------

    def submit(self, waiting: WaitingRows) -> None:
        """Send out as many of the rows as there are credits for. The others follow when answers free credits."""
        if not self._outstanding:
            self._since_s = time.monotonic()
        self._outstanding += len(waiting.rows)
        self._submitted += len(waiting.rows)
        halves: dict[int, list[Row]] = {}
        for row in waiting.rows:
            if row.suspect == ALONE:
                self._suspects.append(waiting._replace(rows=[row]))
            elif row.suspect:
                halves.setdefault(row.suspect, []).append(row)
        self._suspects.extend(waiting._replace(rows=half) for half in halves.values())
        rows = [row for row in waiting.rows if not row.suspect]
        if rows:
            self._waiting.append(waiting._replace(rows=rows))
        self._scale()
        self._pump()

    def cut(self, group: Group, rows: Iterable[Row]) -> None:
        """Have rows that write stop. Each is answered once more, unless its last answer is on its way already. A row
        that waits to be sent is lost instead."""
        told: dict[int, tuple[Replica, list[tuple[int, int]]]] = {}
        for row in rows:
            name = (group.key_L[row.trace], row.seed)
            if row.op == Op.WRITE_ON:
                place = self._writing.get(name)
                if place is not None:
                    self._cut.add(name)
            else:
                place = self._find(group, row)
            if place is not None:
                replica, call, index = place
                told.setdefault(replica.number, (replica, []))[1].append((call, index))
            elif self._withdraw(group, row):
                self._rows_done(1)
                self._deliver(group, Reply([row], None, "it was given up before it was sent"))
        for replica, places in told.values():
            self._spawn(self._tell(replica, places))

    def _find(self, group: Group, row: Row) -> tuple[Replica, int, int] | None:
        """The replica, call and position of a row that is out. None: it is not. Looks through all open calls: rows that
        do not write on are cut where a request is cancelled, and no table is kept for that."""
        for replica in (*self.replica_set.live.values(), *self.replica_set.leaving.values()):
            for number, call in replica.calls.items():
                if call.rows.group is group:
                    for index in call.open:
                        if call.rows.rows[index] == row:
                            return replica, number, index
        return None

    def _withdraw(self, group: Group, row: Row) -> bool:
        """Take a row out of those that wait to be sent. False: it is not among them."""
        for waits in (self._waiting, self._suspects):
            for at, waiting in enumerate(waits):
                if waiting.group is group and row in waiting.rows:
                    left = [other for other in waiting.rows if other != row]
                    if left:
                        waits[at] = waiting._replace(rows=left)
                    else:
                        del waits[at]
                    return True
        return False

    def forget(self, group: Group, traces: list[int]) -> None:
        """Have the homes of finished traces free the prefixes. The next call to each carries the keys."""
        for trace in traces:
            replica = self.replica_set.live.get(self._prefixes.forget(group.key_L[trace]))
            if replica is not None:
                replica.drop.append(group.key_L[trace])

    def _pump(self) -> None:
        """Send out suspects and waiting rows, as far as credits go."""
        self._try_suspect()
        while self._waiting:
            live = self.replica_set.live
            free = {r.number: self._credit(r) for r in live.values() if r is not self._trial}
            credit = sum(free.values())
            if credit <= 0:
                return
            waiting = self._next_waiting(credit)
            shares, rest = self._assign(waiting, free)
            if rest:
                self._waiting.appendleft(waiting._replace(rows=rest))
            for number, rows in shares.items():
                self._send(live[number], waiting._replace(rows=rows))

    def _credit(self, replica: Replica) -> int:
        """How many rows the replica may be sent. None if it has enough to do and could take a few only: a call costs
        much the same whatever it holds."""
        credit = self.pool_config.max_rows - replica.in_flight
        few = credit < self.pool_config.max_rows // 4 and replica.in_flight >= self.pool_config.max_num_seqs
        return 0 if few else credit

    def _next_waiting(self, credit: int) -> WaitingRows:
        """The rows that have waited longest, together with others of their group that can share a call."""
        waiting = self._waiting.popleft()
        rows = list(waiting.rows)
        while self._waiting and len(rows) < credit:
            following = self._waiting[0]
            waits = (waiting.flush_s is None, following.flush_s is None)
            alike = following.group is waiting.group and following.sampling is waiting.sampling
            if not alike or waits[0] != waits[1]:
                break
            rows += self._waiting.popleft().rows
        return waiting._replace(rows=rows)

    def _try_suspect(self) -> None:
        live = self.replica_set.live
        if not self._suspects or not live:
            return
        if self._trial is None or self._trial.number not in live:
            self._trial = min(live.values(), key=lambda r: r.in_flight)
        if not self._trial.in_flight:
            suspects, most = self._suspects.popleft(), self.pool_config.max_rows
            self._send(self._trial, suspects._replace(rows=suspects.rows[:most]))
            if len(suspects.rows) > most:
                self._suspects.appendleft(suspects._replace(rows=suspects.rows[most:]))

    def _send(self, replica: Replica, sent: WaitingRows) -> None:
        number, now_s = next(self._calls), time.monotonic()
        replica.in_flight += len(sent.rows)
        replica.calls[number] = OpenCall(sent, set(range(len(sent.rows))), replica.in_flight, now_s, now_s)
        for index, row in enumerate(sent.rows):
            if row.op == Op.WRITE_ON:
                self._writing[sent.group.key_L[row.trace], row.seed] = (replica, number, index)
        if replica.number not in self._heard:
            self._heard.add(replica.number)
            self._spawn(self._listen(replica))
        self._spawn(self._submit(replica, number, self._batch(replica, sent)))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._fail(error)  # nobody awaits these tasks, and the rows of this one would never come back

    def _assign(self, waiting: WaitingRows, free: dict[int, int]) -> tuple[dict[int, list[Row]], list[Row]]:
        """(rows by replica number, rows for which no credit is left). `free`: credits by replica number."""
        rows = waiting.rows
        if len(free) == 1:
            ((number, credit),) = free.items()
            return {number: rows[:credit]}, rows[credit:]
        key_L, live = waiting.group.key_L, self.replica_set.live
        out = {number: live[number].in_flight for number in free}
        step_s = {number: live[number].step_s for number in free}
        shares, rest = balanced([self._prefixes.home(key_L[row.trace]) for row in rows], free, out, step_s)
        return {n: [rows[i] for i in mine] for n, mine in shares.items()}, [rows[i] for i in rest]

    def _batch(self, replica: Replica, sent: WaitingRows) -> StepBatch:
        """The message for these rows. Notes that the replica now holds their prefixes, and empties its `drop`."""
        group, rows, tokenizer = sent.group, sent.rows, self.info.tokenizer
        held_B, new_B = [], []
        for row in rows:
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
            sampling=sent.sampling,
            key_B=[group.key_L[row.trace] for row in rows],
            op_B=[row.op for row in rows],
            seed_B=[row.seed for row in rows],
            max_tokens_B=[row.max_tokens for row in rows],
            held_B=held_B,
            new_B=new_B,
            drop=drop,
            flush_s=sent.flush_s,
        )

    # --- calls ----------------------------------------------------------------------------------------------------

    async def _submit(self, replica: Replica, number: int, batch: StepBatch) -> None:
        try:
            await replica.submit(number, batch)
        except ReplicaDied as error:
            self._died(replica, str(error))

    async def _tell(self, replica: Replica, places: list[tuple[int, int]]) -> None:
        """Have the rows at these places, by call and position, stop writing."""
        try:
            await replica.cut(places)
        except ReplicaDied as error:
            self._died(replica, str(error))

    async def _listen(self, replica: Replica) -> None:
        """Hand on the replica's answers until it is gone."""
        try:
            async for message in replica.answers():
                self.messages += 1
                for number, results in message:
                    self._answered(replica, number, results)
                self._pump()
        except ReplicaDied as error:
            self._died(replica, str(error))

    def _answered(self, replica: Replica, number: int, results: StepResults) -> None:
        call = replica.calls.get(number)
        if call is None:  # the replica counts as dead since
            return
        group, rows = call.rows.group, call.rows.rows
        call.heard_s = time.monotonic()
        ended = [index for r, index in enumerate(results.row_R) if r not in results.open_R]
        call.open.difference_update(ended)
        replica.in_flight -= len(ended)
        self._rows_done(len(ended))
        answered = [rows[index] for index in results.row_R]
        self._note_prefixes(group, answered, results)
        self._forget_writing(group, [rows[index] for index in ended])
        self._deliver(group, Reply(answered, results))
        if not call.open:
            del replica.calls[number]
            replica.measured(time.monotonic() - call.sent_s, call.out)
            self._call_ended(replica)

    def _call_ended(self, replica: Replica) -> None:
        if self._trial is replica and not replica.in_flight:
            self._trial = None
        self.replica_set.call_ended(replica)

    def _died(self, replica: Replica, death: str) -> None:
        """Take the rows back that were out at a replica. May be called more than once."""
        self.replica_set.replace_dead(replica, death)
        calls, replica.calls = replica.calls, {}
        for call in calls.values():
            sent, left = call.rows, [call.rows.rows[i] for i in sorted(call.open)]
            replica.in_flight -= len(left)
            self._forget_writing(sent.group, left)
            self._take_back(sent, left, death)
        self._call_ended(replica)
        self._pump()

    def _take_back(self, sent: WaitingRows, left: list[Row], death: str) -> None:
        """Try rows on which a replica died in two halves. A row that was alone, and rows that are answered step by
        step, are lost."""
        in_parts = (Op.WRITE_ON, Op.WHOLE) if sent.sampling.stream else (Op.WRITE_ON,)
        middle = len(left) // 2 if len(left) > 1 else 1
        for half in (left[:middle], left[middle:]):
            number = next(self._halves)
            lost = [row._replace(suspect=number) for row in half if row.op in in_parts]
            kept = [row for row in half if row.op not in in_parts]
            if len(left) == 1:
                # A pass that was alone counts as a try, as every row but one that writes on.
                lost = [row if row.op == Op.WRITE_ON else row._replace(suspect=ALONE) for row in lost + kept]
                kept = []
            if kept:
                self._suspects.append(sent._replace(rows=kept))
            if lost:
                self._rows_done(len(lost))
                self._deliver(sent.group, Reply(lost, None, death))

    def _leaves(self, replica: Replica) -> None:
        """Have all rows that write on at this replica stop, so that they go on elsewhere."""
        places = [
            (number, index)
            for number, call in replica.calls.items()
            for index in sorted(call.open)
            if call.rows.rows[index].op == Op.WRITE_ON
        ]
        if places:
            self._spawn(self._tell(replica, places))

    def _forget_writing(self, group: Group, rows: list[Row]) -> None:
        for row in rows:
            if row.op == Op.WRITE_ON:
                self._writing.pop((group.key_L[row.trace], row.seed), None)
                self._cut.discard((group.key_L[row.trace], row.seed))

    def _note_prefixes(self, group: Group, rows: list[Row], results: StepResults) -> None:
        """Note what the replica now holds of these rows' traces."""
        for i, (row, finish) in enumerate(zip(rows, results.finish_R, strict=True)):
            if row.op == Op.WRITE_ON and (group.key_L[row.trace], row.seed) in self._cut:
                continue  # the replica has a newer prefix, or soon will
            if finish == Finish.MISSING:
                self._prefixes.missing(group.key_L[row.trace])
            elif finish not in (Finish.ERROR, Finish.CUT) and row.op in WRITING:
                further = (step.ids for step in results.more_R.get(i, ()))
                self._prefixes.written(group.key_L[row.trace], (results.ids_R[i], *further))

    def _rows_done(self, rows: int) -> None:
        """Note that so many rows were answered or lost."""
        self._outstanding -= rows
        if not self._outstanding:
            self.outstanding_s += time.monotonic() - self._since_s
