"""The HTTP side of an endpoint, as an application of Ray Serve.

    steer serve CONFIG.yaml                         starts it on this machine
    serve deploy / KubeRay's RayService             import_path: pipelines.serve.app:build

The router lives in the process of the deployment's replica: a request reaches its live group without a further hop.
POST /v1/chat/completions, GET /v1/models and GET /health are mounted, and nothing else.

Invariants: no text of a request is logged unless `endpoint.log_texts` asks for it. A response that has begun ends in
`[DONE]` or in an error event. Every error is OpenAI's error object.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field
from ray import serve
from starlette.exceptions import HTTPException

from actors.router.live import LiveRouter
from pipelines.arguments import API_KEY
from pipelines.serve import answer
from pipelines.serve.config import Served, load_served
from pipelines.serve.endpoint import Ended, Endpoint
from pipelines.serve.request import Asked, Limits, Refused, parse, refuse_long
from steer.config.check import needed_roles
from steer.config.load import load
from steer.config.shares import pool_shares
from steer.config.strict import Strict, Text
from steer.events import Event
from steer.thoughts import ThoughtSplitter

NAME = "steer"
"""Name of the application."""
OPEN_CALLS = 100_000
"""Calls that Serve lets into the deployment at the same time. The endpoint itself says how many are too many."""
LOGGING = {"log_level": "INFO", "enable_access_log": False}
"""Of Serve's processes. Who asked what is not logged."""
BODY_S = 60.0
"""Seconds in which the body of a request must come."""
HEALTH_S = 10.0
"""Seconds between two looks of Serve whether the deployment lives, and that it has to answer."""

logger = logging.getLogger("ray.serve")
http = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@http.exception_handler(HTTPException)
async def _no_such_path(request: Request, failure: HTTPException) -> Response:
    message = f"{request.method} {request.url.path[:100]}: {failure.detail}"
    return JSONResponse(answer.error(message, failure.status_code), failure.status_code, failure.headers)


@http.exception_handler(Refused)
async def _refused(_: Request, refused: Refused) -> Response:
    retry = {} if refused.retry_after_s is None else {"retry-after": f"{refused.retry_after_s:.0f}"}
    asks_key = {"www-authenticate": "Bearer"} if refused.status == 401 else {}
    body = answer.error(str(refused), refused.status, refused.param, refused.code)
    return JSONResponse(body, refused.status, {**retry, **asks_key})


@http.exception_handler(Exception)
async def _failed(_: Request, failure: Exception) -> Response:
    logger.error("a request failed: %s", type(failure).__name__, exc_info=failure)
    return JSONResponse(answer.error("the endpoint failed on this request", 500), 500)


@serve.deployment(
    name="Endpoint",
    max_ongoing_requests=OPEN_CALLS,
    health_check_period_s=HEALTH_S,
    health_check_timeout_s=3 * HEALTH_S,
    ray_actor_options={"num_cpus": 0},
)
@serve.ingress(http)
class EndpointDeployment:
    """One replica is one router with its share of the pools."""

    async def __init__(self, what: Served, key_sha256: str | None, wait: bool) -> None:
        """`key_sha256`: of the key that clients must send. None: they need none. `wait`: the replica counts as started
        only once the models are loaded."""
        config, options = what.config, what.config.endpoint
        roles = needed_roles([what.policy], what.pair)
        shares = pool_shares(config.pools, roles)
        rank = serve.get_replica_context().rank.rank % len(shares)
        prefix = f"{rank}/" if len(shares) > 1 else ""
        router = LiveRouter(
            what.pair,
            shares[rank],
            what.routing,
            what.tokens,
            options.max_live,
            roles=roles,
            prefix=prefix,
            run=f"{NAME}/{what.name}",
        )
        self._router, self._id = router, uuid.uuid4().hex
        self._endpoint = Endpoint(what, router, roles)
        self._thinks = {model.thinks.close for model in (what.pair.small, what.pair.large) if model.thinks}
        self._key, self._log_texts, self._began_s = key_sha256, options.log_texts, int(time.time())
        self._limits = Limits(
            max_body_bytes=options.max_body_bytes,
            max_messages=options.max_messages,
            max_text_chars=options.max_text_chars,
            max_tokens=what.routing.max_new_tokens,
        )
        self._endpoint.start()
        if wait:
            await self._endpoint.loaded()

    # --- what Serve and `steer serve` call --------------------------------------------------------------------------

    def check_health(self) -> None:
        """Raise if nothing can be answered any more: then Serve starts the replica again."""
        failure = self._endpoint.failure
        if failure is not None:
            raise RuntimeError(str(failure)) from failure

    async def status(self) -> dict[str, Any]:
        """As `GET /health`."""
        return await self._endpoint.health()

    async def events(self, since: Mapping[str, int]) -> tuple[str, list[Event]]:
        """Which router this is, and what happened to its replicas: the events from its number in `since` on. `steer
        serve` cannot choose which of several routers it asks."""
        return self._id, await self._router.events(since.get(self._id, 0))

    async def drain(self, within_s: float) -> int:
        """See `Endpoint.drain`."""
        return await self._endpoint.drain(within_s)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    @http.get("/health")
    async def health(self) -> Response:
        found = await self._endpoint.health()
        return JSONResponse(found, 200 if found["status"] == "ready" else 503)

    @http.get("/v1/models")
    async def models(self, request: Request) -> Response:
        self._refuse_stranger(request)
        return JSONResponse(answer.models(self._endpoint.models, self._began_s))

    @http.post("/v1/chat/completions")
    async def chat_completions(self, request: Request) -> Response:
        self._refuse_stranger(request)
        asked = parse(await self._body(request), self._limits)
        name, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
        if self._log_texts:
            logger.info("%s asks %s", name, json.dumps(asked.prompt.__dict__, ensure_ascii=False))
        texts = self._texts(asked, name)
        if asked.stream:
            first = await anext(texts)  # what is refused is refused with its status
            return StreamingResponse(
                self._stream(asked, name, created, first, texts),
                media_type="text/event-stream",
                headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
            )
        return await self._whole(asked, name, created, texts)

    async def _texts(self, asked: Asked, name: str) -> AsyncIterator[tuple[str, str] | Ended]:
        """(thought, text) of every kept piece, and the end."""
        splitter, said = ThoughtSplitter(next(iter(self._thinks), "")), []
        events = self._endpoint.answer(asked)
        try:
            async for event in events:
                if isinstance(event, Ended):
                    rest = splitter.end()
                    if any(rest):
                        yield rest
                    if self._log_texts:
                        logger.info("%s says %s", name, json.dumps("".join(said), ensure_ascii=False))
                    yield event
                    return
                if self._log_texts:
                    said.append(event)
                parts = splitter.feed(event)
                if any(parts):
                    yield parts
        finally:
            await events.aclose()

    async def _whole(
        self, asked: Asked, name: str, created: int, texts: AsyncIterator[tuple[str, str] | Ended]
    ) -> Response:
        thought, text = [], []
        try:
            async for event in texts:
                if isinstance(event, Ended):
                    usage = answer.usage(event.trace, *await self._endpoint.parameters())
                    reasoning = "".join(thought) if self._thinks else None
                    body = answer.completion(
                        name, created, asked.model, "".join(text), reasoning, event.finish_reason, usage
                    )
                    return JSONResponse(body, headers=answer.headers(usage))
                thought.append(event[0])
                text.append(event[1])
        finally:
            await texts.aclose()
        raise RuntimeError("the answer has no end")

    async def _stream(
        self,
        asked: Asked,
        name: str,
        created: int,
        first: tuple[str, str] | Ended,
        texts: AsyncIterator[tuple[str, str] | Ended],
    ) -> AsyncIterator[bytes]:
        def piece(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
            body = answer.chunk(name, created, asked.model, delta, finish_reason, asked.include_usage)
            return answer.sse(body)

        try:
            yield piece({"role": "assistant", "content": ""})
            event: tuple[str, str] | Ended = first
            while not isinstance(event, Ended):
                parts = zip(("reasoning_content", "content"), event, strict=True)
                yield piece({key: text for key, text in parts if text})
                event = await anext(texts)
            yield piece({}, event.finish_reason)
            if asked.include_usage:
                usage = answer.usage(event.trace, *await self._endpoint.parameters())
                yield answer.sse(answer.usage_chunk(name, created, asked.model, usage))
            yield answer.DONE
        except Refused as refused:
            yield answer.sse(answer.error(str(refused), refused.status, refused.param, refused.code))
        finally:
            await texts.aclose()

    async def _body(self, request: Request) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    size += len(part)
                    refuse_long(size, self._limits)
                    parts.append(part)
        except TimeoutError:
            raise Refused(f"the body did not come within {BODY_S:g} s", 408) from None
        return b"".join(parts)

    def _refuse_stranger(self, request: Request) -> None:
        if self._key is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).hexdigest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._key):
            what = "give the endpoint's key as `Authorization: Bearer KEY`"
            raise Refused(what, 401, code="invalid_api_key")


class ServeArgs(Strict):
    """The `args` of the application in a Serve config file."""

    config: Text | None = None
    """Path of CONFIG.yaml on the head. None: the defaults."""
    plan: Text | None = None
    """Folder or plan.yaml of `steer tune`."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of the configuration by their dotted names."""
    wait: bool = True
    """A replica counts as started only once its models are loaded."""
    without_key: bool = False
    """Answer everybody who reaches the port, without STEER_API_KEY."""


def application(what: Served, key: str | None, wait: bool) -> serve.Application:
    """The application. `key`: what clients must send; None: nothing."""
    hashed = None if key is None else hashlib.sha256(key.encode()).hexdigest()
    options = what.config.endpoint
    deployment = EndpointDeployment.options(
        num_replicas=what.config.pools.routers, graceful_shutdown_timeout_s=options.drain_s, logging_config=LOGGING
    )
    return deployment.bind(what, hashed, wait)


def build(args: dict[str, Any]) -> serve.Application:
    """The application for `serve deploy` and RayService. Raises SettingsError for bad `args`, and ValueError if there
    is no key in the environment and none was waived."""
    given = load(ServeArgs, None, (), args)
    key = os.environ.get(API_KEY)
    if not key and not given.without_key:
        raise ValueError(
            f"{API_KEY} is not set, and Serve listens on the cluster's network: set it on the head, or give "
            "`without_key: true` in args"
        )
    what = load_served(given.config, given.plan, [f"{name}={json.dumps(value)}" for name, value in given.set.items()])
    return application(what, key or None, given.wait)
