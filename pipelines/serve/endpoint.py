"""What an endpoint does with a request, apart from HTTP: admission, back-pressure, the policy that was asked for, stop
strings, time limits and the end.

Invariants: a request that is taken is answered, refused or given up, and in each case its rows leave the engines. No
more than `max_live` requests are in the engines, and no more than `max_queued` wait.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from actors.router.live import LiveRequest, LiveRouter, TooManySettings, events_of
from pipelines.serve.config import Served, refuse_unservable
from pipelines.serve.request import Asked, Refused
from steer.config.check import needed_roles
from steer.config.load import SettingsError
from steer.config.policy import LargePolicy, PolicyConfig, SmallPolicy
from steer.config.thresholds import threshold_key, with_threshold
from steer.messages import REFUSED_PROMPTS
from steer.routing.live_group import Admission
from steer.routing.stops import StopScanner
from steer.traces import Question, Role, Status, Trace

RETRY_S = 5.0
"""Seconds that a client is told to wait while models load, or the endpoint ends."""
STEADY = 0.1
"""Weight of the last request in the mean time of one."""


class Ended(NamedTuple):
    """The end of an answer."""

    trace: Trace
    finish_reason: str
    """`stop` or `length`."""


class Endpoint:
    """Belongs to one event loop."""

    def __init__(self, what: Served, router: LiveRouter, roles: Sequence[Role]):
        self._served, self._router, self._roles = what, router, tuple(roles)
        options = what.config.endpoint
        self._options = options
        self._free = asyncio.Semaphore(options.max_live)
        self.live = self.queued = 0
        self.draining = False
        self._mean_s: float | None = None
        """Mean seconds of a request, from its place to its end."""
        self._ready: asyncio.Task[Any] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    # --- states ---------------------------------------------------------------------------------------------------

    @property
    def models(self) -> tuple[str, str, str]:
        """Names of what can be asked: the router, and each model alone."""
        name = f"steer/{self._served.name}"
        return name, f"{name}/small", f"{name}/large"

    def start(self) -> None:
        """Begin to load the models."""
        self._ready = asyncio.get_running_loop().create_task(self._router.start())
        self._ready.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def loaded(self) -> None:
        """Wait until the models are loaded. Raises why they cannot be."""
        assert self._ready is not None, "start() comes first"
        await asyncio.shield(self._ready)

    @property
    def failure(self) -> BaseException | None:
        """Why nothing can be answered any more. None: that is not so."""
        if self._router.broken is not None:
            return self._router.broken
        over = self._ready is not None and self._ready.done() and not self._ready.cancelled()
        return self._ready.exception() if over else None

    @property
    def state(self) -> str:
        """`loading`, `ready`, `draining` or `broken`."""
        if self.failure is not None:
            return "broken"
        if self.draining:
            return "draining"
        return "ready" if self._ready is not None and self._ready.done() else "loading"

    async def health(self) -> dict[str, Any]:
        """The state and the counts: what `GET /health` answers."""
        stats, totals = await self._router.stats(), self._router.totals
        found: dict[str, Any] = {
            "status": self.state,
            "live": self.live,
            "queued": self.queued,
            "replicas": {role.label: count for role, count in stats.replicas.items()},
            "replaced_replicas": stats.replaced,
            "requests": dict(totals.by_status),
            "tokens": {
                "small": totals.tokens_small,
                "large": totals.tokens_large,
                "discarded": totals.tokens_discarded,
            },
        }
        if self.failure is not None:
            found["reason"] = str(self.failure)
        elif stats.waiting:
            found["waiting"] = {role.label: what for role, what in stats.waiting.items()}
        return found

    async def drain(self, within_s: float) -> int:
        """Refuse new requests, and wait until the live ones have ended. Returns how many are left after `within_s`."""
        self.draining = True
        until_s = time.monotonic() + within_s
        while (self.live or self.queued) and time.monotonic() < until_s:
            await asyncio.sleep(0.05)
        return self.live + self.queued

    async def parameters(self) -> tuple[float, float]:
        """Parameter counts of the small and the large model, for FLOPs. 0: it was never loaded."""
        infos = await self._router.infos()
        small, large = (infos[role].parameters if role in infos else 0.0 for role in (Role.SMALL, Role.LARGE))
        return small, large

    # --- a request --------------------------------------------------------------------------------------------------

    async def answer(self, asked: Asked) -> AsyncIterator[str | Ended]:
        """The kept texts of the answer without what a stop string cuts, then how it ended. Raises Refused.

        If the caller stops reading, the request is given up.
        """
        self._refuse_now()
        policy = self.policy_for(asked)
        await self._take_place()
        request = self._request(asked)
        started_s = time.monotonic()
        try:
            try:
                self._router.admit(request, policy)
            except TooManySettings as failure:
                request.over = True
                raise Refused(f"{failure}: ask again later", 429, retry_after_s=self._retry_s()) from None
            async for event in self._events(request, asked, started_s + self._options.timeout_s):
                yield event
        finally:
            self._end(request, started_s)

    async def _events(self, request: LiveRequest, asked: Asked, until_s: float) -> AsyncIterator[str | Ended]:
        stops = StopScanner(asked.stop)
        while True:
            # Around one event, not around the loop: a caller may read on in another task than it began in.
            try:
                async with asyncio.timeout(until_s - time.monotonic()):
                    event = await request.events.get()
            except TimeoutError:
                raise Refused(f"not answered within {self._options.timeout_s:g} s", 504) from None
            if isinstance(event, Exception):
                raise Refused(f"this endpoint is broken: {event}", 503)
            if isinstance(event, str):
                if stops.found:
                    continue
                text = stops.feed(event)
                if text:
                    yield text
                if stops.found:
                    self._router.end(request, Status.ANSWERED, "")
                continue
            if event.status == Status.ERROR:
                raise _refusal(event)
            rest = "" if stops.found else stops.end()
            if rest:
                yield rest
            yield Ended(event, "length" if event.status == Status.LENGTH else "stop")
            return

    def policy_for(self, asked: Asked) -> PolicyConfig:
        """The policy that the request's model, `steer_policy` and `steer_threshold` ask for. Raises Refused."""
        routed, small, large = self.models
        alone: dict[str, PolicyConfig] = {small: SmallPolicy(), large: LargePolicy()}
        if asked.model in alone:
            if asked.policy is not None or asked.threshold is not None:
                raise Refused(f"{asked.model} is one model: leave steer_policy and steer_threshold out", param="model")
            return alone[asked.model]
        if asked.model != routed:
            raise Refused(
                f"there is no model {asked.model[:60]!r}; there are {', '.join(self.models)}",
                404,
                param="model",
                code="model_not_found",
            )
        policy = self._served.policy if asked.policy is None else self._named(asked.policy)
        return policy if asked.threshold is None else _at(policy, asked.threshold)

    def _named(self, name: str) -> PolicyConfig:
        if name == self._served.policy.name:
            return self._served.policy
        where = "vllm_xargs.steer_policy"
        try:
            policy: PolicyConfig = TypeAdapter(PolicyConfig).validate_python({"name": name})
            refuse_unservable(policy)
        except ValidationError:
            raise Refused(f"there is no policy {name[:60]!r}", param=where) from None
        except SettingsError as failure:
            raise Refused(str(failure), param=where) from None
        missing = [role.label for role in needed_roles([policy], self._served.pair) if role not in self._roles]
        if missing:
            what = f"policy {name} needs the model of role {', '.join(missing)}, which this endpoint has not started"
            raise Refused(what, param=where)
        return policy

    def _request(self, asked: Asked) -> LiveRequest:
        routing = self._served.routing
        most = routing.max_new_tokens if asked.max_tokens is None else min(asked.max_tokens, routing.max_new_tokens)
        question = Question(id=asked.question_id, sample=asked.sample, benchmark="", prompt="", gold="", grader="")
        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        return LiveRequest(Admission(question, asked.prompt, seed, most), asked.temperature, asked.top_p)

    # --- places -----------------------------------------------------------------------------------------------------

    def _refuse_now(self) -> None:
        """Raise Refused if no request can be taken."""
        state = self.state
        if state == "loading":
            raise Refused("the models are loading: ask again later", 503, retry_after_s=RETRY_S)
        if state == "draining":
            raise Refused("this endpoint is about to stop", 503, retry_after_s=RETRY_S)
        if state == "broken":
            raise Refused(f"this endpoint is broken: {self.failure}", 503)
        if self._free.locked() and self.queued >= self._options.max_queued:
            full = f"{self.live} requests are being answered and {self.queued} wait: ask again later"
            raise Refused(full, 429, code="rate_limit_exceeded", retry_after_s=self._retry_s())

    async def _take_place(self) -> None:
        self.queued += 1
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await self._free.acquire()
        except TimeoutError:
            waited = f"no place became free within {self._options.timeout_s:g} s"
            raise Refused(waited, 429, code="rate_limit_exceeded", retry_after_s=self._retry_s()) from None
        finally:
            self.queued -= 1
        self.live += 1

    def _retry_s(self) -> float:
        """Seconds in which a place should be free for one who comes now."""
        ahead = (self.queued + 1) / self._options.max_live
        return float(max(1, math.ceil(ahead * (self._mean_s or RETRY_S))))

    def _end(self, request: LiveRequest, started_s: float) -> None:
        """Give the place back, as soon as the request's rows have left the engines."""
        seconds = time.monotonic() - started_s
        self._mean_s = seconds if self._mean_s is None else self._mean_s + STEADY * (seconds - self._mean_s)
        if request.over:
            self._give_back()
            return
        self._router.end(request)
        closing = asyncio.get_running_loop().create_task(self._close(request))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, request: LiveRequest) -> None:
        with contextlib.suppress(Exception):  # the reason why the pools are gone: every request that is live says it
            async for _ in events_of(request):
                pass
        self._give_back()

    def _give_back(self) -> None:
        self.live -= 1
        self._free.release()


def _at(policy: PolicyConfig, threshold: float) -> PolicyConfig:
    """The policy at another threshold: of `decide: threshold` the one score that all steps are compared with, else the
    key that a sweep varies. Raises Refused."""
    where = "vllm_xargs.steer_threshold"
    try:
        if policy.name == "steer" and policy.decide == "threshold":
            given = policy.model_dump(exclude_unset=True) | {"thresholds": (threshold,)}
            return type(policy).model_validate(given)
        return with_threshold(policy, threshold)
    except ValidationError as failure:
        key = threshold_key(policy.model_dump())
        why = failure.errors(include_url=False, include_input=False)[0]["msg"]
        raise Refused(
            f"steer_threshold: {threshold:g} is no {key} of policy {policy.name}: {why}", param=where
        ) from None
    except ValueError as failure:
        raise Refused(f"{failure}: leave steer_threshold out", param=where) from None


def _refusal(trace: Trace) -> Refused:
    """Why a trace has no answer: the request's fault, or not."""
    if any(start in trace.error for start in REFUSED_PROMPTS):
        return Refused(trace.error, 400, param="messages", code="context_length_exceeded")
    return Refused(f"the request failed: {trace.error}", 500)
