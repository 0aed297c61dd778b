"""The router: it owns the groups and the pools, and loops  admit -> fit -> decide -> dispatch -> collect -> retire.

A router is an actor; a run has one or several. Each group is one coroutine, so the pools work for other groups while
one waits at its barrier. Invariant: every question that is handed to `route` comes back in exactly one row, unless the
run has committed it already.
"""

import asyncio
import gc
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

from actors.router.journal import CellJournal, Journal
from actors.router.journaled_group import JournaledGroup
from actors.router.metrics.export import EXPORT_S, Exporter, samples
from actors.router.nodes import watch_draining
from actors.router.pool import Pool, Reply, WaitingRows
from actors.router.roles import role_class, role_model
from actors.router.stats import RouterStats
from actors.router.trace_time import LiveTime, TimePart, TraceClock
from steer.config.policy import PolicyConfig
from steer.config.run import PairConfig, PoolsConfig, RoutingOptions
from steer.config.secrets import remember
from steer.costs.money import prices_of
from steer.events import Event, EventLog
from steer.messages import WRITING, EngineInfo, Sampling
from steer.mixture.bank import ScoreBank
from steer.policies import journal_classes, make_policy
from steer.routing.group import Group
from steer.routing.replay import GroupSnapshot
from steer.routing.rows import Row
from steer.storage.questions import to_questions
from steer.storage.tables import routed_table
from steer.traces import PAIR, Finish, Question, Role

MESSAGES_SHARE = 0.3
"""Share of the event loop that the answers of all replicas together may take. The cost of a message is measured."""
FLUSH_S = (0.01, 0.5)
"""Least and most seconds between two messages of a replica whose rows need not wait for each other. An engine takes
about 10 ms for a decoding step."""
MESSAGE_S = 0.003
"""Seconds of the event loop that a message takes, until it is measured."""
MEASURED_MESSAGES = 100
"""Messages after which their cost is measured anew."""
GC_THRESHOLDS = (100_000, 50, 1000)
"""Arguments of `gc.set_threshold` in the router's process."""
YIELD_S = 1.0
"""Seconds after which the next round of a group hands on its finished traces, however few."""
YIELD_TRACES = 256
"""Finished traces are handed on as soon as there are this many."""


@dataclass(frozen=True)
class Job:
    """How to route one group."""

    cell: str
    """Name of the cell. The groups of a cell share a score bank."""
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
        prefix: str = "",
        run: str = "",
    ):
        """`replica_class`: the class of all replicas. None: what `role_class` says, which is vLLM unless a model's path
        names a simulated engine. `roles`: those that the policies need; each gets a pool. `journal`: path or URL of the
        journal's folder. None: keep no journal. `prefix`: what the names of this router's replicas begin with. It is
        the router's number and a slash, or "" if there is one router. `run`: the run's name in the metrics."""
        remember(pair.model_dump(mode="json"))
        self._stats = RouterStats()
        self._number = prefix.removesuffix("/")
        self._exporter = Exporter(run, self._number or "0")
        self._prices = prices_of(pair)
        self._exporting: asyncio.Task[None] | None = None
        self._events = EventLog()
        self._inboxes: dict[Group, asyncio.Queue[Reply | Exception]] = {}
        self._round_from_s: dict[Group, float] = {}
        """When each group last had an answer."""
        self._banks: dict[str, ScoreBank] = {}
        self._journal = None if journal is None else Journal(journal)
        self._cells: dict[str, asyncio.Task[CellJournal]] = {}
        self._journaled: dict[str, JournaledGroup] = {}
        """By name: groups that are live or not yet committed. Empty in a run without a journal."""
        self._admitted = 0
        self._loop_from_s = 0.0
        self._message_s = MESSAGE_S
        self._messages, self._measured_from_s = 0, 0.0
        """Messages when their cost was last measured, and the thread's CPU seconds then."""
        self._lived = LiveTime()
        self._broken: Exception | None = None
        self._judge_prompt = pair.judge_prompt
        self._closing_tags = [model.thinks.close if model.thinks else "" for model in (pair.small, pair.large)]
        """By model. Empty: it does not think."""
        self._tokenizers = ["" for _ in PAIR]
        """Fingerprints by model, shared with every group. A pool that starts with no replica sets its entry before its
        first answer."""
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
                prefix,
                self._events,
            )
            for role in roles
        }

    def __repr__(self) -> str:
        """The name of the actor in Ray's logs and dashboard."""
        return f"router-{self._number}" if self._number else "router"

    async def start(self, policies: Sequence[PolicyConfig] = ()) -> dict[Role, EngineInfo]:
        """Start all pools. Raises ReplicaDied if a model cannot be loaded.

        Before that it raises ValueError if one of the `policies` cannot be made here: the module of a `custom` policy
        may exist on the driver's machine only.
        """
        self._loop_from_s = self._measured_from_s = time.thread_time()
        for policy in policies:
            make_policy(policy)
        # A router holds millions of objects in no cycle. With Python's defaults a third of its time goes into looking
        # for cycles among them.
        gc.set_threshold(*GC_THRESHOLDS)
        self._exporting = asyncio.get_running_loop().create_task(self._keep_exporting())
        await asyncio.gather(*(pool.start() for pool in self._pools.values()))
        hear = [pool.replica_set.drain for pool in self._pools.values()]
        self._watch = asyncio.get_running_loop().create_task(watch_draining(hear))
        return await self.infos()

    async def infos(self) -> dict[Role, EngineInfo]:
        """What each role's first replica said of itself. A role is missing until a replica of it was loaded."""
        return {role: pool.info for role, pool in self._pools.items() if pool.info is not None}

    def expect(self, traces: int) -> None:
        """Announce how many traces will come, for the progress line."""
        self._stats.total += traces

    async def stats(self) -> RouterStats:
        pools = self._pools
        replica_sets = {role: pool.replica_set for role, pool in pools.items()}
        self._stats.replaced = sum(replica_set.replaced for replica_set in replica_sets.values())
        self._stats.replicas = {role: len(replica_set.live) for role, replica_set in replica_sets.items()}
        self._stats.states = {role: replica_set.states for role, replica_set in replica_sets.items()}
        self._stats.starting = {role: replica_set.starting for role, replica_set in replica_sets.items()}
        self._stats.replica_s = {role: replica_set.replica_s for role, replica_set in replica_sets.items()}
        waiting = {role: replica_set.waiting for role, replica_set in replica_sets.items()}
        self._stats.waiting = {role: what for role, what in waiting.items() if what}
        self._stats.outstanding_s = {role: pool.outstanding_s for role, pool in pools.items()}
        self._stats.busy_s = {role: replica_set.busy_s for role, replica_set in replica_sets.items()}
        self._stats.loop_s = time.thread_time() - self._loop_from_s
        self._stats.live_s = self._lived.note(self._stats.live)
        self._stats.parameters = {role: pool.parameters for role, pool in pools.items()}
        rounds = [since_s for group, since_s in self._round_from_s.items() if group.live]
        self._stats.oldest_round_s = time.monotonic() - min(rounds) if rounds else 0.0
        return self._stats

    async def events(self, since: int) -> list[Event]:
        """What happened to the replicas: the events from this number on."""
        return self._events.since(since)

    async def close(self) -> None:
        """Kill every replica, and export the last counts."""
        for task in (self._watch, self._exporting):
            if task is not None:
                task.cancel()
        for pool in self._pools.values():
            pool.close()
        await self._export()

    async def _keep_exporting(self) -> None:
        while True:
            await self._export()
            await asyncio.sleep(EXPORT_S)

    async def _export(self) -> None:
        pools = {role: pool.pool_config for role, pool in self._pools.items()}
        self._exporter.export(samples(await self.stats(), pools, self._prices))

    async def route(self, questions: pa.Table, job: Job, committed: Collection[str] = ()):
        """Route one group. Yields finished traces as they end, as tables of ROUTED_SCHEMA.

        `questions`: columns QUESTION_COLUMNS. `committed`: ids of traces whose rows the run has already; the others go
        on from the journal, if it has the group.
        """
        journaled = await self._admit(to_questions(questions), job, committed)
        group = journaled.group
        sampling = self._sampling(group, job.tokens)
        inbox = self._inboxes[group] = asyncio.Queue()
        clock = TraceClock(self._stats.trace_s, group)
        yielded = time.monotonic()
        try:
            while True:
                self._round_from_s[group] = time.monotonic()
                rows = await self._decide(journaled)
                clock.lap(TimePart.DECIDING)
                self._dispatch(group, rows, sampling)
                self._retire(journaled)
                wait_s = max(YIELD_S, journaled.hold_s)
                if journaled.waiting >= YIELD_TRACES or (journaled.waiting and time.monotonic() - yielded > wait_s):
                    await self._flush(journaled)
                    yield self._table(journaled)
                    yielded = time.monotonic()
                if not group.live:
                    break
                if not group.out:
                    raise RuntimeError(
                        f"group {group.name} of cell {group.cell}: {group.live} live traces, none of them out"
                    )
                clock.lap(TimePart.ROUTER)
                first = await self._next(journaled, inbox)
                clock.lap(TimePart.BARRIER)
                self._collect(journaled, first, inbox)
                clock.lap(TimePart.ROUTER)
            if journaled.waiting:
                await self._flush(journaled)
                yield self._table(journaled)
            journaled.end()
        finally:
            del self._inboxes[group]
            self._round_from_s.pop(group, None)
            self._stats.live -= group.live

    async def committed(self, group: str, trace_ids: Sequence[str]) -> None:
        """Note that the rows of these traces are in the run's tables, so the journal need not keep them."""
        journaled = self._journaled.get(group)
        if journaled is not None and journaled.committed(trace_ids):
            del self._journaled[group]
            await asyncio.to_thread(journaled.remove_journal)

    def _sampling(self, group: Group, tokens: str) -> Sampling:
        """How the rows of a group are sampled and scored. `tokens`: see `Job`."""
        signal, routing = group.policy.signal, group.options
        return Sampling(
            temperature=routing.temperature,
            top_p=routing.top_p,
            tokens=tokens,
            greedy_judge=signal is not None and signal.greedy,
            judge_prompt=self._judge_prompt,
            token_scores=bool(routing.token_scores),
            pass_tokens=routing.pass_tokens,
            ahead_tokens=routing.most_ahead,
        )

    # --- admit -> decide -> dispatch -> collect -> retire -----------------------------------------------------------

    async def _admit(self, questions: list[Question], job: Job, committed: Collection[str]) -> JournaledGroup:
        if self._broken is not None:
            raise self._broken
        self._admitted += 1
        number = self._admitted
        cell = None if self._journal is None else await self._open(job.cell)
        journaled = None
        if cell is not None:
            classes = journal_classes(job.policy)
            known = (cell, job.group, questions, frozenset(committed), number, self._tokenizers, classes)
            journaled = await asyncio.to_thread(JournaledGroup.recover, *known)
        if journaled is None:
            bank = self._banks.setdefault(job.cell, ScoreBank()) if cell is None else cell.bank
            group = Group(
                number,
                [question for question in questions if question.trace_id not in committed],
                make_policy(job.policy, job.seed, bank),
                job.routing,
                job.seed,
                tokenizers=self._tokenizers,
                closing_tags=self._closing_tags,
                judge=Role.JUDGE if Role.JUDGE in self._pools else Role.LARGE,
                name=job.group,
                cell=job.cell,
            )
            if cell is None:
                journaled = JournaledGroup(GroupSnapshot(group))
            else:
                journaled = await asyncio.to_thread(JournaledGroup.begin, cell, GroupSnapshot(group), classes)
        if cell is not None:
            self._journaled[job.group] = journaled
        self._stats.live += journaled.group.live
        self._lived.note(self._stats.live)
        self._stats.done += journaled.waiting
        self._stats.errors += journaled.errors
        return journaled

    async def _open(self, cell: str) -> CellJournal:
        """The journal of a cell, read once."""
        if cell not in self._cells:
            self._cells[cell] = asyncio.create_task(asyncio.to_thread(self._journal.open, cell))
        return await asyncio.shield(self._cells[cell])

    async def _decide(self, journaled: JournaledGroup) -> list[Row]:
        # In a thread: a fit takes milliseconds, and meanwhile answers of other groups come in.
        fit_s, journal_s = journaled.fit_s, journaled.journal_s
        rows = await asyncio.to_thread(journaled.decide)
        self._stats.fit_s += journaled.fit_s - fit_s
        self._stats.journal_s += journaled.journal_s - journal_s
        return rows

    async def _flush(self, journaled: JournaledGroup) -> None:
        """Write the rounds that the journal holds, in a thread."""
        if journaled.due_s is not None:
            journal_s = journaled.journal_s
            await asyncio.to_thread(journaled.flush)
            self._stats.journal_s += journaled.journal_s - journal_s

    async def _next(self, journaled: JournaledGroup, inbox: asyncio.Queue) -> Reply | Exception:
        """The next message for a group. Rounds that the journal holds are written meanwhile, when they are due."""
        if (due_s := journaled.due_s) is not None:
            try:
                async with asyncio.timeout(due_s):
                    return await inbox.get()
            except TimeoutError:
                await self._flush(journaled)
        return await inbox.get()

    def _dispatch(self, group: Group, rows: list[Row], sampling: Sampling) -> None:
        for pool in self._pools.values():
            share = [row for row in rows if row.role == pool.role]
            if not share:
                continue
            # At a strict barrier no trace goes on before the last row is answered. Large steps are an exception: the
            # small model can score them while others are being written.
            scored_next = pool.role == Role.LARGE and group.policy.scored_by_small
            flush_s = None if group.strict and not scored_next else self._flush_s()
            pool.submit(WaitingRows(group, share, sampling, flush_s))
        cuts = group.take_cuts()
        for role in PAIR if cuts else ():
            self._pools[role].cut(group, [row for row in cuts if row.role == role])

    def _flush_s(self) -> float:
        """Seconds between two messages of a replica, so that all of them together leave the event loop free."""
        messages = sum(pool.messages for pool in self._pools.values())
        if messages >= self._messages + MEASURED_MESSAGES:
            now_s = time.thread_time()
            measured_s = (now_s - self._measured_from_s) / (messages - self._messages)
            self._message_s += 0.3 * (measured_s - self._message_s)
            self._messages, self._measured_from_s = messages, now_s
        replicas = sum(len(pool.replica_set.live) for pool in self._pools.values())
        least_s, most_s = FLUSH_S
        return min(max(replicas * self._message_s / MESSAGES_SHARE, least_s), most_s)

    def _collect(self, journaled: JournaledGroup, first: Reply | Exception, inbox: asyncio.Queue) -> None:
        replies = [first]
        while not inbox.empty():
            replies.append(inbox.get_nowait())
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
            if reply.results is not None:
                self._count(reply)
            journaled.take(reply)

    def _count(self, reply: Reply) -> None:
        stats, more = self._stats, [step for steps in reply.results.more_R.values() for step in steps]
        tokens = sum(reply.results.tokens_R) + sum(len(step.ids) for step in more)
        finishes = zip(reply.rows, reply.results.finish_R, strict=True)
        steps = sum(row.op in WRITING and finish != Finish.CUT for row, finish in finishes) + len(more)
        role = Role(reply.rows[0].role)  # a row's is a plain integer
        computed = sum(reply.results.prompt_tokens_R) - sum(reply.results.cached_tokens_R)
        stats.computed[role] = stats.computed.get(role, 0) + computed
        for row, seconds in zip(reply.rows, reply.results.seconds_R, strict=True):
            kind = (role, row.op in WRITING)
            stats.row_s[kind] = stats.row_s.get(kind, 0.0) + seconds
        if role == Role.SMALL:
            stats.tokens_small += tokens
            stats.steps_small += steps
        elif role == Role.LARGE:
            stats.tokens_large += tokens
            stats.steps_large += steps

    def _retire(self, journaled: JournaledGroup) -> None:
        errors = journaled.errors
        ended = journaled.retire()
        self._stats.errors += journaled.errors - errors
        for pool in self._pools.values():
            pool.forget(journaled.group, ended)
        self._stats.done += len(ended)
        self._stats.live -= len(ended)
        self._lived.note(self._stats.live)

    # --- what the pools call ----------------------------------------------------------------------------------------

    def _deliver(self, group: Group, reply: Reply) -> None:
        inbox = self._inboxes.get(group)
        if inbox is not None:  # None: the caller of `route` is gone.
            inbox.put_nowait(reply)

    def _learn(self, role: Role, info: EngineInfo) -> None:
        if role in PAIR:
            self._tokenizers[role] = info.tokenizer

    def _left(self) -> tuple[int, int, int]:
        return self._stats.live, self._stats.queued, self._stats.done

    def _break(self, error: Exception) -> None:
        """Stop every group with the reason why a pool is gone for good."""
        self._broken = error
        for inbox in self._inboxes.values():
            inbox.put_nowait(error)

    def _table(self, journaled: JournaledGroup) -> pa.Table:
        parameters = [self._pools[role].parameters if role in self._pools else 0.0 for role in Role]
        return routed_table(*journaled.hand_over(), parameters, self._prices)
