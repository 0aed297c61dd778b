"""THE router: owns the groups and both pools, and loops  admit -> fit -> decide -> dispatch -> collect -> retire.

One actor a run. Each group is one coroutine, so that the pools work for other groups while one waits at its barrier.
Invariant: every question handed to `route` comes back in exactly one row.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from actors.nodes import watch_draining
from actors.pool import Answer, Load, Pool
from actors.seats import PAIR, seat_class, seat_model
from steer.config import PairConfig, PoolsConfig, RoutingOptions
from steer.group import Group
from steer.mixture import ScoreBank
from steer.policies import make_policy
from steer.policy_config import PolicyConfig
from steer.rows import Row
from steer.tables import routed_table
from steer.traces import Question, Seat, Trace
from steer.work import EngineInfo, Op, Sampling

FLUSH_S = 0.2
"""How often a replica answers what is done where rows need not wait for each other. A message costs router and replica
about 5 ms between them: at .05 s and eight calls in flight they were busy with messages half the time; a step of a
7B model on a GPU takes a second or more."""
YIELD_S = 1.0
"""Finished traces are handed on at least this often..."""
YIELD_TRACES = 256
"""...or as soon as there are so many."""


@dataclass(frozen=True)
class Job:
    """How to route one group."""

    cell: str
    """Name of the policy setting; groups of one cell share a score bank."""
    group: str
    policy: PolicyConfig
    routing: RoutingOptions
    tokens: str
    """Which tokens a step's score averages over: `math` or `all`."""
    seed: int


@dataclass
class RouterStats:
    """Counts since the router started."""

    total: int = 0
    """Traces announced by `expect`."""
    live: int = 0
    done: int = 0
    tokens_small: int = 0
    tokens_large: int = 0
    steps_small: int = 0
    steps_large: int = 0
    replaced: int = 0
    """Replicas that died and were replaced."""
    replicas: dict[Seat, int] = field(default_factory=dict)
    """Those that take rows now."""
    starting: dict[Seat, int] = field(default_factory=dict)
    replica_s: dict[Seat, float] = field(default_factory=dict)
    """Seconds that replicas held a place on a node, from being placed (loading included) until killed, or until now."""
    waiting: dict[Seat, str] = field(default_factory=dict)
    """What replicas that find no node are missing, by pools that have such."""
    outstanding_s: dict[Seat, float] = field(default_factory=dict)
    """Seconds in which a pool had rows waiting or running."""
    busy_s: dict[Seat, float] = field(default_factory=dict)
    """Engine seconds with work, summed over a pool's replicas."""
    fit_s: float = 0.0
    """Seconds spent in policies (fits included)."""

    @property
    def queued(self) -> int:
        return max(self.total - self.live - self.done, 0)


class Router:
    def __init__(
        self, pair: PairConfig, pools: PoolsConfig, replica_class: type | None = None, seats: Sequence[Seat] = PAIR
    ):
        """`replica_class`: what a pool starts; none: vLLM engines. `seats`: those that the policies need."""
        self._stats = RouterStats()
        self._inboxes: dict[Group, asyncio.Queue[Answer | Exception]] = {}
        self._banks: dict[str, ScoreBank] = {}
        self._admitted = 0
        self._broken: Exception | None = None
        self._judge_prompt = pair.judge_prompt
        self._tokenizers = ["" for _ in PAIR]
        """Shared with every group: a pool that starts with no replica fills its entry in before its first answer."""
        self._watch: asyncio.Task | None = None
        self._pools = {
            seat: Pool(
                seat,
                seat_model(pair, seat),
                getattr(pools, seat.label),
                pools.measures,
                replica_class or seat_class(seat, seat_model(pair, seat)),
                self._deliver,
                self._break,
                self._left,
                self._learn,
            )
            for seat in seats
        }

    async def start(self, policies: Sequence[PolicyConfig] = ()) -> dict[Seat, EngineInfo]:
        """Start all pools; raises ReplicaDied when a model cannot be loaded, and before that ValueError when one of the
        `policies` cannot be made here: a `custom` one that the driver could import may lie on its machine alone."""
        for policy in policies:
            make_policy(policy)
        await asyncio.gather(*(pool.start() for pool in self._pools.values()))
        hear = [pool.fleet.drain for pool in self._pools.values()]
        self._watch = asyncio.get_running_loop().create_task(watch_draining(hear))
        return await self.infos()

    async def infos(self) -> dict[Seat, EngineInfo]:
        """What runs, or ran, at each seat; a seat that started with no replica is missing until its first is loaded."""
        return {seat: pool.info for seat, pool in self._pools.items() if pool.info is not None}

    def expect(self, traces: int) -> None:
        """Announce how many traces will come, for progress."""
        self._stats.total += traces

    async def stats(self) -> RouterStats:
        pools = self._pools
        fleets = {seat: pool.fleet for seat, pool in pools.items()}
        self._stats.replaced = sum(fleet.replaced for fleet in fleets.values())
        self._stats.replicas = {seat: len(fleet.live) for seat, fleet in fleets.items()}
        self._stats.starting = {seat: fleet.starting for seat, fleet in fleets.items()}
        self._stats.replica_s = {seat: fleet.replica_s for seat, fleet in fleets.items()}
        self._stats.waiting = {seat: fleet.waiting for seat, fleet in fleets.items() if fleet.waiting}
        self._stats.outstanding_s = {seat: pool.outstanding_s for seat, pool in pools.items()}
        self._stats.busy_s = {seat: fleet.busy_s for seat, fleet in fleets.items()}
        return self._stats

    async def close(self) -> None:
        """Kill every replica."""
        if self._watch is not None:
            self._watch.cancel()
        for pool in self._pools.values():
            pool.close()

    async def route(self, questions: pa.Table, job: Job):
        """Route one group; yields tables (ROUTED_SCHEMA) of finished traces as they end."""
        group = self._admit(questions, job)
        signal, routing = group.policy.signal, job.routing
        greedy = signal is not None and signal.greedy
        aggregate = getattr(job.policy, "aggregate", "mean")
        sampling = Sampling(routing.temperature, routing.top_p, job.tokens, aggregate, greedy, self._judge_prompt)
        inbox = self._inboxes[group] = asyncio.Queue()
        finished: list[Trace] = []
        yielded = time.monotonic()
        try:
            while True:
                rows = await self._decide(group)
                self._dispatch(group, rows, sampling)
                finished += self._retire(group)
                if len(finished) >= YIELD_TRACES or (finished and time.monotonic() - yielded > YIELD_S):
                    yield self._table(group, finished)
                    finished, yielded = [], time.monotonic()
                if not group.live:
                    break
                if not group.out:
                    raise RuntimeError(
                        f"group {group.name} of cell {group.cell}: {group.live} live traces, none of them out"
                    )
                await self._collect(group, inbox)
            if finished:
                yield self._table(group, finished)
        finally:
            del self._inboxes[group]
            self._stats.live -= group.live

    # --- admit -> decide -> dispatch -> collect -> retire -----------------------------------------------------------

    def _admit(self, questions: pa.Table, job: Job) -> Group:
        if self._broken is not None:
            raise self._broken
        bank = self._banks.setdefault(job.cell, ScoreBank())
        self._admitted += 1
        group = Group(
            self._admitted,
            [Question(**row) for row in questions.to_pylist()],
            make_policy(job.policy, job.seed, bank),
            job.routing,
            job.seed,
            tokenizers=self._tokenizers,
            judge=Seat.JUDGE if Seat.JUDGE in self._pools else Seat.LARGE,
            name=job.group,
            cell=job.cell,
        )
        self._stats.live += group.live
        return group

    async def _decide(self, group: Group) -> list[Row]:
        started = time.monotonic()
        # Off the event loop: a fit takes milliseconds, in which other groups' answers come in.
        rows = await asyncio.to_thread(group.decide)
        self._stats.fit_s += time.monotonic() - started
        return rows

    def _dispatch(self, group: Group, rows: list[Row], sampling: Sampling) -> None:
        for pool in self._pools.values():
            share = [row for row in rows if row.model == pool.seat]
            if not share:
                continue
            # At a strict barrier nobody goes on before the last row is in, except large steps: the small model can
            # score them while others are still being written.
            scored_next = pool.seat == Seat.LARGE and group.policy.scored_by_small
            flush_s = None if group.strict and not scored_next else FLUSH_S
            pool.submit(Load(group, share, sampling, flush_s))

    async def _collect(self, group: Group, inbox: asyncio.Queue) -> None:
        answers = [await inbox.get()]
        while not inbox.empty():
            answers.append(inbox.get_nowait())
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            if answer.results is None:
                group.lost(answer.rows, answer.reason)
            else:
                self._count(answer)
                group.apply(answer.rows, answer.results)

    def _count(self, answer: Answer) -> None:
        stats, more = self._stats, [step for steps in answer.results.more_R.values() for step in steps]
        tokens = sum(answer.results.tokens_R) + sum(len(step.ids) for step in more)
        steps = sum(row.op in (Op.STEP, Op.WHOLE, Op.AHEAD) for row in answer.rows) + len(more)
        seat = answer.rows[0].model
        if seat == Seat.SMALL:
            stats.tokens_small += tokens
            stats.steps_small += steps
        elif seat == Seat.LARGE:
            stats.tokens_large += tokens
            stats.steps_large += steps

    def _retire(self, group: Group) -> list[Trace]:
        finished = group.take_finished()
        for pool in self._pools.values():
            pool.forget(group, [i for i, _ in finished])
        self._stats.done += len(finished)
        self._stats.live -= len(finished)
        return [trace for _, trace in finished]

    # --- answers ----------------------------------------------------------------------------------------------------

    def _deliver(self, group: Group, answer: Answer) -> None:
        inbox = self._inboxes.get(group)
        if inbox is not None:  # else the group's consumer is gone
            inbox.put_nowait(answer)

    def _learn(self, seat: Seat, info: EngineInfo) -> None:
        if seat in PAIR:
            self._tokenizers[seat] = info.tokenizer

    def _left(self) -> tuple[int, int, int]:
        return self._stats.live, self._stats.queued, self._stats.done

    def _break(self, error: Exception) -> None:
        """A pool is gone for good: every group stops with the reason."""
        self._broken = error
        for inbox in self._inboxes.values():
            inbox.put_nowait(error)

    def _table(self, group: Group, finished: list[Trace]) -> pa.Table:
        parameters = [self._pools[s].parameters if s in self._pools else 0.0 for s in Seat]
        mixtures = [{"group": group.name, **row} for row in group.policy.mixtures()]
        return routed_table(finished, mixtures, parameters)
