"""The router of an endpoint: requests join and leave its groups while they run.

All requests of one policy setting are routed in one live group, so their rows share calls; rows of all groups share the
engines' batches. A group is one coroutine, which alone touches it. Requests reach it through its inbox, as replies do.

Invariants: every request that `complete` took ends in one Trace or one exception. A request that is given up leaves no
row at an engine. What a trace is charged is counted in `totals`, whether anybody waits for it or not.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from actors.router.pool import Reply
from actors.router.router import Router
from steer.config.policy import PolicyConfig
from steer.config.run import PairConfig, PoolsConfig, RoutingOptions
from steer.messages import Sampling
from steer.mixture.bank import ScoreBank
from steer.policies import make_policy
from steer.routing.live_group import CANCELLED, Admission, LiveGroup
from steer.routing.rows import Row
from steer.traces import PAIR, Role, Status, Trace

MAX_GROUPS = 32
"""Live groups at most: policy settings that requests may ask for at the same time. An idle one gives way."""
SETTINGS = 256
"""Samplings that a group keeps. Rows of one call have one sampling, and are told by its identity."""


class TooManySettings(Exception):
    """Requests with too many different policy settings are live."""


@dataclass
class Totals:
    """What all traces so far were charged, those that were cancelled included."""

    requests: int = 0
    tokens_small: int = 0
    tokens_large: int = 0
    tokens_discarded: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    """Requests by how they ended: a `Status`, or `cancelled`."""

    def add(self, trace: Trace) -> None:
        self.requests += 1
        self.tokens_small += trace.tokens_small
        self.tokens_large += trace.tokens_large
        self.tokens_discarded += trace.tokens_discarded
        how = CANCELLED if trace.error == CANCELLED else trace.status.value
        self.by_status[how] = self.by_status.get(how, 0) + 1


@dataclass(eq=False)
class LiveRequest:
    """A request, from `LiveRouter.admit` on."""

    admission: Admission
    temperature: float | None = None
    """None: that of `routing`."""
    top_p: float | None = None
    events: asyncio.Queue[str | Trace | Exception] = field(default_factory=asyncio.Queue)
    """Kept texts in their order, then the trace or the reason why there is none."""
    group: "_Live | None" = None
    trace: int | None = None
    """Its place in the group. None: it has none yet, or no longer."""
    over: bool = False


@dataclass(frozen=True)
class _Leaves:
    request: LiveRequest
    status: Status
    error: str


_Inbox = asyncio.Queue[Reply | Exception | LiveRequest | _Leaves]


@dataclass(eq=False)
class _Live:
    """A live group and what belongs to it."""

    group: LiveGroup
    sampling: Sampling
    inbox: _Inbox = field(default_factory=asyncio.Queue)
    requests: dict[int, LiveRequest] = field(default_factory=dict)
    """By place."""
    coming: int = 0
    """Requests that are in the inbox, or have a place."""
    used_s: float = 0.0
    samplings: dict[tuple[float, float], Sampling] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class LiveRouter(Router):
    def __init__(
        self,
        pair: PairConfig,
        pools: PoolsConfig,
        routing: RoutingOptions,
        tokens: str,
        places: int,
        replica_class: type | None = None,
        roles: Sequence[Role] = PAIR,
        prefix: str = "",
        run: str = "",
    ):
        """`tokens`: which tokens a step's score averages over. `places`: most live requests of one policy setting. The
        others: as of a router."""
        super().__init__(pair, pools, replica_class, roles, None, prefix, run)
        self.totals = Totals()
        self._routing, self._tokens, self._places = routing, tokens, places
        self._live: dict[str, _Live] = {}
        """By policy setting."""
        # Ray counts an actor call to the task in whose context it is made, and cancels it with that task. A request
        # that is given up must not take with it the calls that all requests share.
        self._context = contextvars.copy_context()
        self._bank = ScoreBank()
        """Recent scores of all requests, whatever their setting."""

    @property
    def broken(self) -> Exception | None:
        """Why no request can be answered any more. None: they can."""
        return self._broken

    def admit(self, request: LiveRequest, policy: PolicyConfig) -> None:
        """Take a request in. Its `events` end with its trace, or an exception. Raises TooManySettings."""
        if self._broken is not None:
            raise self._broken
        live = self._of(policy)
        request.group = live
        live.coming += 1
        live.used_s = time.monotonic()
        live.inbox.put_nowait(request)

    def end(self, request: LiveRequest, status: Status = Status.ERROR, error: str = CANCELLED) -> None:
        """End a request now: its rows at the engines are aborted, and its trace follows. Does nothing if it is over."""
        if request.group is not None and not request.over:
            request.group.inbox.put_nowait(_Leaves(request, status, error))

    async def close(self) -> None:
        for live in self._live.values():
            if live.task is not None:
                live.task.cancel()
        await super().close()

    def _of(self, policy: PolicyConfig) -> _Live:
        """The live group of a policy setting; a new one if there is none."""
        key = policy.model_dump_json()
        if key not in self._live:
            self._give_way()
            self._admitted += 1
            group = LiveGroup(
                self._admitted,
                self._places,
                make_policy(policy, 0, self._bank),
                self._routing,
                tokenizers=self._tokenizers,
                closing_tags=self._closing_tags,
                judge=Role.JUDGE if Role.JUDGE in self._pools else Role.LARGE,
                name=f"live {self._admitted}",
            )
            live = self._live[key] = _Live(group, replace(self._sampling(group, self._tokens), stream=True))
            self._inboxes[group] = live.inbox
            live.task = asyncio.get_running_loop().create_task(self._run(live), context=self._context)
        return self._live[key]

    def _give_way(self) -> None:
        if len(self._live) < MAX_GROUPS:
            return
        idle = [key for key, live in self._live.items() if not live.coming]
        if not idle:
            raise TooManySettings(f"requests with {MAX_GROUPS} different policy settings are live")
        gone = self._live.pop(min(idle, key=lambda key: self._live[key].used_s))
        assert gone.task is not None, "a group that is known has its task"
        gone.task.cancel()

    # --- one group ----------------------------------------------------------------------------------------------------

    async def _run(self, live: _Live) -> None:
        group = live.group
        try:
            while True:
                self._take(live, await live.inbox.get())
                while not live.inbox.empty():
                    self._take(live, live.inbox.get_nowait())
                self._round_from_s[group] = time.monotonic()
                rows = await asyncio.to_thread(group.decide)
                group.policy.mixtures()  # kept for tables, and there are none here
                group.decisions.take()
                self._send(live, rows)
                self._hand_on(live)
        except Exception as failure:  # the pools are gone, or a fault of the router: nobody may wait for ever
            self._give_up(live, failure)
        finally:
            self._inboxes.pop(group, None)
            self._round_from_s.pop(group, None)

    def _take(self, live: _Live, what: Reply | Exception | LiveRequest | _Leaves) -> None:
        group = live.group
        if isinstance(what, Exception):
            raise what
        if isinstance(what, LiveRequest):
            what.trace = group.admit(what.admission)
            live.requests[what.trace] = what
            self._stats.live += 1
        elif isinstance(what, _Leaves):
            trace = what.request.trace
            if trace is not None and group.live_L[trace]:
                group.leave(trace, what.status, what.error)
        elif what.results is None:
            group.lost(what.rows, what.reason)
        else:
            self._count(what)
            group.apply(what.rows, what.results)

    def _send(self, live: _Live, rows: list[Row]) -> None:
        by_sampling: dict[int, tuple[Sampling, list[Row]]] = {}
        for row in rows:
            sampling = self._sampling_of(live, live.requests[row.trace])
            by_sampling.setdefault(id(sampling), (sampling, []))[1].append(row)
        for sampling, share in by_sampling.values() or [(live.sampling, [])]:
            self._dispatch(live.group, share, sampling)  # and what is to be cut

    def _sampling_of(self, live: _Live, request: LiveRequest) -> Sampling:
        """The sampling of a request: one object for equal ones."""
        usual = live.sampling
        temperature = usual.temperature if request.temperature is None else request.temperature
        top_p = usual.top_p if request.top_p is None else request.top_p
        key = (temperature, top_p)
        if key not in live.samplings:
            if len(live.samplings) >= SETTINGS:
                live.samplings.clear()
            live.samplings[key] = replace(usual, temperature=temperature, top_p=top_p)
        return live.samplings[key]

    def _hand_on(self, live: _Live) -> None:
        for trace, text in live.group.take_kept():
            if text:
                live.requests[trace].events.put_nowait(text)
        ended = live.group.take_finished()
        for pool in self._pools.values():
            pool.forget(live.group, [trace for trace, _ in ended])
        for place, trace in ended:
            request = live.requests.pop(place)
            request.trace, request.over = None, True
            live.coming -= 1
            self.totals.add(trace)
            self._stats.live -= 1
            self._stats.done += 1
            self._stats.errors += trace.status == Status.ERROR and trace.error != CANCELLED
            request.events.put_nowait(trace)

    def _give_up(self, live: _Live, failure: Exception) -> None:
        """End all requests of a group with the reason."""
        self._live = {key: other for key, other in self._live.items() if other is not live}
        waiting = list(live.requests.values())
        while not live.inbox.empty():
            what = live.inbox.get_nowait()
            if isinstance(what, LiveRequest):
                waiting.append(what)
        for request in waiting:
            request.over = True
            self._stats.live -= request.trace is not None
            request.events.put_nowait(failure)


async def events_of(request: LiveRequest) -> AsyncIterator[str | Trace]:
    """The kept texts of a request and then its trace. Raises why there is no trace."""
    while True:
        event = await request.events.get()
        if isinstance(event, Exception):
            raise event
        yield event
        if isinstance(event, Trace):
            return
