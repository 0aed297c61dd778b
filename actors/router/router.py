"""THE router: owns the groups and both pools, and loops  admit -> fit -> decide -> dispatch -> collect -> retire.

One actor a run. Each group is one coroutine, so that the pools work for other groups while one waits at its barrier.
Invariant: every question handed to `route` comes back in exactly one row.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

from actors.router.journal import CellJournal, Journal
from actors.router.journaled_group import JournaledGroup, begun, recovered
from actors.router.nodes import watch_draining
from actors.router.pool import Pool, Reply, WaitingRows
from actors.router.roles import PAIR, role_class, role_model
from actors.router.stats import RouterStats
from actors.router.trace_time import LiveTime, TimePart, TraceClock
from steer.config.policy import PolicyConfig
from steer.config.run import PairConfig, PoolsConfig, RoutingOptions
from steer.messages import WRITING, EngineInfo, Sampling
from steer.mixture.bank import ScoreBank
from steer.mixture.gaussians import mixture_class
from steer.policies import make_policy
from steer.routing.group import Group
from steer.routing.replay import GroupSnapshot
from steer.routing.rows import Row
from steer.storage.tables import routed_table
from steer.traces import Question, Role

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


class Router:
    def __init__(
        self,
        pair: PairConfig,
        pools: PoolsConfig,
        replica_class: type | None = None,
        roles: Sequence[Role] = PAIR,
        journal: str | None = None,
    ):
        """`replica_class`: what a pool starts; none: vLLM engines, or what the models' paths say. `roles`: those that
        the policies need. `journal`: the folder of the journal, a path or URL; none: without one."""
        self._stats = RouterStats()
        self._inboxes: dict[Group, asyncio.Queue[Reply | Exception]] = {}
        self._banks: dict[str, ScoreBank] = {}
        self._journal = None if journal is None else Journal(journal)
        self._cells: dict[str, asyncio.Task[CellJournal]] = {}
        self._journaled: dict[str, JournaledGroup] = {}
        """Groups that are live or not yet committed, by name; of a run with a journal."""
        self._admitted = 0
        self._loop_from_s = 0.0
        self._lived = LiveTime()
        self._broken: Exception | None = None
        self._judge_prompt = pair.judge_prompt
        self._tokenizers = ["" for _ in PAIR]
        """Shared with every group: a pool that starts with no replica fills its entry in before its first answer."""
        self._watch: asyncio.Task | None = None
        self._pools = {
            role: Pool(
                role,
                role_model(pair, role),
                getattr(pools, role.label),
                pools.measures,
                replica_class or role_class(role, role_model(pair, role)),
                self._deliver,
                self._break,
                self._left,
                self._learn,
            )
            for role in roles
        }

    async def start(self, policies: Sequence[PolicyConfig] = ()) -> dict[Role, EngineInfo]:
        """Start all pools; raises ReplicaDied when a model cannot be loaded, and before that ValueError when one of the
        `policies` cannot be made here: a `custom` one that the driver could import may lie on its machine alone."""
        self._loop_from_s = time.thread_time()
        for policy in policies:
            make_policy(policy)
        # The first fit must not wait for an import.
        await asyncio.gather(asyncio.to_thread(mixture_class), *(pool.start() for pool in self._pools.values()))
        hear = [pool.replica_set.drain for pool in self._pools.values()]
        self._watch = asyncio.get_running_loop().create_task(watch_draining(hear))
        return await self.infos()

    async def infos(self) -> dict[Role, EngineInfo]:
        """What runs, or ran, at each role; a role that started with no replica is missing until its first is loaded."""
        return {role: pool.info for role, pool in self._pools.items() if pool.info is not None}

    def expect(self, traces: int) -> None:
        """Announce how many traces will come, for progress."""
        self._stats.total += traces

    async def stats(self) -> RouterStats:
        pools = self._pools
        replica_sets = {role: pool.replica_set for role, pool in pools.items()}
        self._stats.replaced = sum(replica_set.replaced for replica_set in replica_sets.values())
        self._stats.replicas = {role: len(replica_set.live) for role, replica_set in replica_sets.items()}
        self._stats.starting = {role: replica_set.starting for role, replica_set in replica_sets.items()}
        self._stats.replica_s = {role: replica_set.replica_s for role, replica_set in replica_sets.items()}
        self._stats.waiting = {
            role: replica_set.waiting for role, replica_set in replica_sets.items() if replica_set.waiting
        }
        self._stats.outstanding_s = {role: pool.outstanding_s for role, pool in pools.items()}
        self._stats.busy_s = {role: replica_set.busy_s for role, replica_set in replica_sets.items()}
        self._stats.loop_s = time.thread_time() - self._loop_from_s
        self._stats.live_s = self._lived.note(self._stats.live)
        return self._stats

    async def close(self) -> None:
        """Kill every replica."""
        if self._watch is not None:
            self._watch.cancel()
        for pool in self._pools.values():
            pool.close()

    async def route(self, questions: pa.Table, job: Job, committed: Collection[str] = ()):
        """Route one group; yields tables (ROUTED_SCHEMA) of finished traces as they end. `committed`: traces (ids)
        that have their rows already; the journal says how far the others are."""
        journaled = await self._admit([Question(**row) for row in questions.to_pylist()], job, committed)
        group = journaled.group
        signal, routing = group.policy.signal, job.routing
        greedy = signal is not None and signal.greedy
        aggregate = getattr(job.policy, "aggregate", "mean")
        sampling = Sampling(
            routing.temperature, routing.top_p, job.tokens, aggregate, greedy, self._judge_prompt, routing.pass_tokens
        )
        inbox = self._inboxes[group] = asyncio.Queue()
        clock = TraceClock(self._stats.trace_s, group)
        yielded = time.monotonic()
        try:
            while True:
                rows = await self._decide(journaled)
                clock.lap(TimePart.DECIDING)
                self._dispatch(group, rows, sampling)
                self._retire(journaled)
                if journaled.waiting >= YIELD_TRACES or (journaled.waiting and time.monotonic() - yielded > YIELD_S):
                    yield self._table(journaled)
                    yielded = time.monotonic()
                if not group.live:
                    break
                if not group.out:
                    raise RuntimeError(
                        f"group {group.name} of cell {group.cell}: {group.live} live traces, none of them out"
                    )
                clock.lap(TimePart.ROUTER)
                first = await inbox.get()
                clock.lap(TimePart.BARRIER)
                self._collect(journaled, first, inbox)
                clock.lap(TimePart.ROUTER)
            if journaled.waiting:
                yield self._table(journaled)
            journaled.end()
        finally:
            del self._inboxes[group]
            self._stats.live -= group.live

    async def committed(self, group: str, trace_ids: Sequence[str]) -> None:
        """Rows of a group are in the run's tables: the journal lets go of these traces."""
        journaled = self._journaled.get(group)
        if journaled is not None and journaled.committed(trace_ids):
            del self._journaled[group]
            await asyncio.to_thread(journaled.remove_journal)

    # --- admit -> decide -> dispatch -> collect -> retire -----------------------------------------------------------

    async def _admit(self, questions: list[Question], job: Job, committed: Collection[str]) -> JournaledGroup:
        if self._broken is not None:
            raise self._broken
        self._admitted += 1
        number = self._admitted
        cell = None if self._journal is None else await self._open(job.cell)
        journaled = None
        if cell is not None:
            known = (cell, job.group, questions, frozenset(committed), number, self._tokenizers)
            journaled = await asyncio.to_thread(recovered, *known)
        if journaled is None:
            bank = self._banks.setdefault(job.cell, ScoreBank()) if cell is None else cell.bank
            group = Group(
                number,
                [question for question in questions if question.trace_id not in committed],
                make_policy(job.policy, job.seed, bank),
                job.routing,
                job.seed,
                tokenizers=self._tokenizers,
                judge=Role.JUDGE if Role.JUDGE in self._pools else Role.LARGE,
                name=job.group,
                cell=job.cell,
            )
            journaled = (
                JournaledGroup(GroupSnapshot(group))
                if cell is None
                else await asyncio.to_thread(begun, cell, GroupSnapshot(group))
            )
        if cell is not None:
            self._journaled[job.group] = journaled
        self._stats.live += journaled.group.live
        self._lived.note(self._stats.live)
        self._stats.done += journaled.waiting
        return journaled

    async def _open(self, cell: str) -> CellJournal:
        """The journal of a cell, read once."""
        if cell not in self._cells:
            self._cells[cell] = asyncio.create_task(asyncio.to_thread(self._journal.open, cell))
        return await asyncio.shield(self._cells[cell])

    async def _decide(self, journaled: JournaledGroup) -> list[Row]:
        # Off the event loop: a fit takes milliseconds, in which other groups' answers come in.
        fit_s, journal_s = journaled.fit_s, journaled.journal_s
        rows = await asyncio.to_thread(journaled.decide)
        self._stats.fit_s += journaled.fit_s - fit_s
        self._stats.journal_s += journaled.journal_s - journal_s
        return rows

    def _dispatch(self, group: Group, rows: list[Row], sampling: Sampling) -> None:
        for pool in self._pools.values():
            share = [row for row in rows if row.role == pool.role]
            if not share:
                continue
            # At a strict barrier nobody goes on before the last row is in, except large steps: the small model can
            # score them while others are still being written.
            scored_next = pool.role == Role.LARGE and group.policy.scored_by_small
            flush_s = None if group.strict and not scored_next else FLUSH_S
            pool.submit(WaitingRows(group, share, sampling, flush_s))

    def _collect(self, journaled: JournaledGroup, first: Reply | Exception, inbox: asyncio.Queue) -> None:
        answers = [first]
        while not inbox.empty():
            answers.append(inbox.get_nowait())
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            if answer.results is not None:
                self._count(answer)
            journaled.take(answer)

    def _count(self, answer: Reply) -> None:
        stats, more = self._stats, [step for steps in answer.results.more_R.values() for step in steps]
        tokens = sum(answer.results.tokens_R) + sum(len(step.ids) for step in more)
        steps = sum(row.op in WRITING for row in answer.rows) + len(more)
        role = answer.rows[0].role
        for row, seconds in zip(answer.rows, answer.results.seconds_R, strict=True):
            kind = (role, row.op in WRITING)
            stats.row_s[kind] = stats.row_s.get(kind, 0.0) + seconds
        if role == Role.SMALL:
            stats.tokens_small += tokens
            stats.steps_small += steps
        elif role == Role.LARGE:
            stats.tokens_large += tokens
            stats.steps_large += steps

    def _retire(self, journaled: JournaledGroup) -> None:
        ended = journaled.retire()
        for pool in self._pools.values():
            pool.forget(journaled.group, ended)
        self._stats.done += len(ended)
        self._stats.live -= len(ended)
        self._lived.note(self._stats.live)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _deliver(self, group: Group, answer: Reply) -> None:
        inbox = self._inboxes.get(group)
        if inbox is not None:  # else the group's consumer is gone
            inbox.put_nowait(answer)

    def _learn(self, role: Role, info: EngineInfo) -> None:
        if role in PAIR:
            self._tokenizers[role] = info.tokenizer

    def _left(self) -> tuple[int, int, int]:
        return self._stats.live, self._stats.queued, self._stats.done

    def _break(self, error: Exception) -> None:
        """A pool is gone for good: every group stops with the reason."""
        self._broken = error
        for inbox in self._inboxes.values():
            inbox.put_nowait(error)

    def _table(self, journaled: JournaledGroup) -> pa.Table:
        parameters = [self._pools[s].parameters if s in self._pools else 0.0 for s in Role]
        return routed_table(*journaled.hand_over(), parameters)
