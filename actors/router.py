"""THE router: owns the groups and both pools, and loops  admit -> fit -> decide -> dispatch -> collect -> retire.

One actor a run. Each group is one coroutine, so that the pools work for other groups while one waits at its barrier.
Invariant: every question handed to `route` comes back in exactly one row.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from actors.course import Course, begun, recovered
from actors.journal import CellJournal, Journal
from actors.nodes import watch_draining
from actors.pool import Answer, Load, Pool
from actors.seats import PAIR, seat_class, seat_model
from actors.trace_time import LiveTime, Part, Spell
from steer.bank import ScoreBank
from steer.config import PairConfig, PoolsConfig, RoutingOptions
from steer.gaussians import mixture_class
from steer.group import Group
from steer.history import Moment
from steer.policies import make_policy
from steer.policy_config import PolicyConfig
from steer.rows import Row
from steer.tables import routed_table
from steer.traces import Question, Seat
from steer.work import WRITING, EngineInfo, Sampling

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
    journal_s: float = 0.0
    """Seconds spent writing the journal."""
    loop_s: float = 0.0
    """CPU seconds of the router's event loop: messages, dispatch and collecting, without the two above."""
    live_s: float = 0.0
    """Seconds in which any trace was live."""
    trace_s: dict[str, float] = field(default_factory=dict)
    """Trace-seconds by `actors.trace_time.Part`."""
    row_s: dict[tuple[Seat, bool], float] = field(default_factory=dict)
    """Seconds that rows were at a seat's engines, summed; apart by whether they wrote (else: scored, probed, rated)."""

    @property
    def queued(self) -> int:
        return max(self.total - self.live - self.done, 0)


class Router:
    def __init__(
        self,
        pair: PairConfig,
        pools: PoolsConfig,
        replica_class: type | None = None,
        seats: Sequence[Seat] = PAIR,
        journal: str | None = None,
    ):
        """`replica_class`: what a pool starts; none: vLLM engines, or what the models' paths say. `seats`: those that
        the policies need. `journal`: the folder of the journal, a path or URL; none: without one."""
        self._stats = RouterStats()
        self._inboxes: dict[Group, asyncio.Queue[Answer | Exception]] = {}
        self._banks: dict[str, ScoreBank] = {}
        self._journal = None if journal is None else Journal(journal)
        self._cells: dict[str, asyncio.Task[CellJournal]] = {}
        self._courses: dict[str, Course] = {}
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
        self._loop_from_s = time.thread_time()
        for policy in policies:
            make_policy(policy)
        # The first fit must not wait for an import.
        await asyncio.gather(asyncio.to_thread(mixture_class), *(pool.start() for pool in self._pools.values()))
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
        course = await self._admit([Question(**row) for row in questions.to_pylist()], job, committed)
        group = course.group
        signal, routing = group.policy.signal, job.routing
        greedy = signal is not None and signal.greedy
        aggregate = getattr(job.policy, "aggregate", "mean")
        sampling = Sampling(
            routing.temperature, routing.top_p, job.tokens, aggregate, greedy, self._judge_prompt, routing.pass_tokens
        )
        inbox = self._inboxes[group] = asyncio.Queue()
        spell = Spell(self._stats.trace_s, group)
        yielded = time.monotonic()
        try:
            while True:
                rows = await self._decide(course)
                spell.lap(Part.DECIDING)
                self._dispatch(group, rows, sampling)
                self._retire(course)
                if course.waiting >= YIELD_TRACES or (course.waiting and time.monotonic() - yielded > YIELD_S):
                    yield self._table(course)
                    yielded = time.monotonic()
                if not group.live:
                    break
                if not group.out:
                    raise RuntimeError(
                        f"group {group.name} of cell {group.cell}: {group.live} live traces, none of them out"
                    )
                spell.lap(Part.ROUTER)
                first = await inbox.get()
                spell.lap(Part.BARRIER)
                self._collect(course, first, inbox)
                spell.lap(Part.ROUTER)
            if course.waiting:
                yield self._table(course)
            course.end()
        finally:
            del self._inboxes[group]
            self._stats.live -= group.live

    async def committed(self, group: str, trace_ids: Sequence[str]) -> None:
        """Rows of a group are in the run's tables: the journal lets go of these traces."""
        course = self._courses.get(group)
        if course is not None and course.committed(trace_ids):
            del self._courses[group]
            await asyncio.to_thread(course.remove_journal)

    # --- admit -> decide -> dispatch -> collect -> retire -----------------------------------------------------------

    async def _admit(self, questions: list[Question], job: Job, committed: Collection[str]) -> Course:
        if self._broken is not None:
            raise self._broken
        self._admitted += 1
        number = self._admitted
        cell = None if self._journal is None else await self._open(job.cell)
        course = None
        if cell is not None:
            known = (cell, job.group, questions, frozenset(committed), number, self._tokenizers)
            course = await asyncio.to_thread(recovered, *known)
        if course is None:
            bank = self._banks.setdefault(job.cell, ScoreBank()) if cell is None else cell.bank
            group = Group(
                number,
                [question for question in questions if question.trace_id not in committed],
                make_policy(job.policy, job.seed, bank),
                job.routing,
                job.seed,
                tokenizers=self._tokenizers,
                judge=Seat.JUDGE if Seat.JUDGE in self._pools else Seat.LARGE,
                name=job.group,
                cell=job.cell,
            )
            course = Course(Moment(group)) if cell is None else await asyncio.to_thread(begun, cell, Moment(group))
        if cell is not None:
            self._courses[job.group] = course
        self._stats.live += course.group.live
        self._lived.note(self._stats.live)
        self._stats.done += course.waiting
        return course

    async def _open(self, cell: str) -> CellJournal:
        """The journal of a cell, read once."""
        if cell not in self._cells:
            self._cells[cell] = asyncio.create_task(asyncio.to_thread(self._journal.open, cell))
        return await asyncio.shield(self._cells[cell])

    async def _decide(self, course: Course) -> list[Row]:
        # Off the event loop: a fit takes milliseconds, in which other groups' answers come in.
        fit_s, journal_s = course.fit_s, course.journal_s
        rows = await asyncio.to_thread(course.decide)
        self._stats.fit_s += course.fit_s - fit_s
        self._stats.journal_s += course.journal_s - journal_s
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

    def _collect(self, course: Course, first: Answer | Exception, inbox: asyncio.Queue) -> None:
        answers = [first]
        while not inbox.empty():
            answers.append(inbox.get_nowait())
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            if answer.results is not None:
                self._count(answer)
            course.take(answer)

    def _count(self, answer: Answer) -> None:
        stats, more = self._stats, [step for steps in answer.results.more_R.values() for step in steps]
        tokens = sum(answer.results.tokens_R) + sum(len(step.ids) for step in more)
        steps = sum(row.op in WRITING for row in answer.rows) + len(more)
        seat = answer.rows[0].model
        for row, seconds in zip(answer.rows, answer.results.seconds_R, strict=True):
            kind = (seat, row.op in WRITING)
            stats.row_s[kind] = stats.row_s.get(kind, 0.0) + seconds
        if seat == Seat.SMALL:
            stats.tokens_small += tokens
            stats.steps_small += steps
        elif seat == Seat.LARGE:
            stats.tokens_large += tokens
            stats.steps_large += steps

    def _retire(self, course: Course) -> None:
        ended = course.retire()
        for pool in self._pools.values():
            pool.forget(course.group, ended)
        self._stats.done += len(ended)
        self._stats.live -= len(ended)
        self._lived.note(self._stats.live)

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

    def _table(self, course: Course) -> pa.Table:
        parameters = [self._pools[s].parameters if s in self._pools else 0.0 for s in Seat]
        return routed_table(*course.hand_over(), parameters)
